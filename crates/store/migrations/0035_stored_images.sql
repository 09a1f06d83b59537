-- An image of the cloud's stores is one item: the same settings name the same image.
CREATE UNIQUE INDEX sources_of_stores ON sources (settings) WHERE kind = 'image_store';
