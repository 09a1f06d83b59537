"""Reads a calendar and a feed with libraries from PyPI and prints what they see in them.

Input and output are JSON: {"calendar": ..., "atom": ...}
"""

import json
import sys

import feedparser
import icalendar
import vobject


def by_icalendar(text):
    calendar = icalendar.Calendar.from_ical(text)
    return {
        "method": calendar["METHOD"],
        "product": calendar["PRODID"],
        "name": calendar["X-WR-CALNAME"],
        "errors": [error for event in calendar.events for error in event.errors],
        "events": [
            {
                "uid": str(event["UID"]),
                "sequence": event["SEQUENCE"],
                "stamp": event["DTSTAMP"].dt.isoformat(),
                "start": event["DTSTART"].dt.isoformat(),
                "end": event["DTEND"].dt.isoformat(),
                "status": str(event["STATUS"]),
                "summary": str(event["SUMMARY"]),
                "description": str(event["DESCRIPTION"]),
                "url": str(event["URL"]),
                "organizer": str(event["ORGANIZER"]),
                "organizer_name": event["ORGANIZER"].params["CN"],
            }
            for event in calendar.events
        ],
    }


def by_vobject(text):
    calendar = vobject.readOne(text)
    return {
        "method": calendar.method.value,
        "product": calendar.prodid.value,
        "name": calendar.x_wr_calname.value,
        "errors": [],
        "events": [
            {
                "uid": event.uid.value,
                "sequence": int(event.sequence.value),
                "stamp": event.dtstamp.value.isoformat(),
                "start": event.dtstart.value.isoformat(),
                "end": event.dtend.value.isoformat(),
                "status": event.status.value,
                "summary": event.summary.value,
                "description": event.description.value,
                "url": event.url.value,
                "organizer": event.organizer.value,
                "organizer_name": event.organizer.params["CN"][0],
            }
            for event in getattr(calendar, "vevent_list", [])
        ],
    }


def by_feedparser(text):
    # Nothing is taken out: what the reader would clean away must not be there at all.
    feed = feedparser.parse(text.encode(), sanitize_html=False)
    return {
        "well_formed": not feed.bozo,
        "version": feed.version,
        "id": feed.feed.id,
        "title": feed.feed.title,
        "updated": feed.feed.updated,
        "entries": [
            {
                "id": entry.id,
                "title": entry.title,
                "updated": entry.updated,
                "author": entry.author,
                "link": entry.link,
                "tags": [tag.term for tag in entry.tags],
                "type": entry.content[0].type,
                "html": entry.content[0].value,
            }
            for entry in feed.entries
        ],
    }


given = json.load(sys.stdin)
print(
    json.dumps(
        {
            "icalendar": by_icalendar(given["calendar"]),
            "vobject": by_vobject(given["calendar"]),
            "feedparser": by_feedparser(given["atom"]),
        }
    )
)
