-- Which jobs of the lab a change began, or found on their way: a bake may be for several.
CREATE TABLE job_changes (
    change_id TEXT NOT NULL REFERENCES changes (id),
    job_id TEXT NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (change_id, job_id)
) STRICT;
CREATE INDEX jobs_of_image ON jobs (image_id, created_at);
CREATE INDEX images_of_item ON images (ci_id);
