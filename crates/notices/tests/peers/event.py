"""Reads an event in structured mode with the CloudEvents SDK and prints its attributes and data."""

import json
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

event = JSONFormat().read(CloudEvent, sys.stdin.buffer.read())
print(
    json.dumps(
        {
            "id": event.get_id(),
            "source": event.get_source(),
            "type": event.get_type(),
            "specversion": event.get_specversion(),
            "datacontenttype": event.get_datacontenttype(),
            "subject": event.get_subject(),
            "time": event.get_time().isoformat(),
            "data": event.get_data(),
        }
    )
)
