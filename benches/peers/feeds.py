"""One feed of facts, written as each tool reads it.

A fact is (source package, fixed version, CVE ids). The facts come from the changelogs of Debian
bookworm-security; see crates/patchwright/tests/data/ORIGIN.md.
"""
import gzip
import json
import re
import zlib
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

DATA = Path(__file__).resolve().parents[2] / "crates/patchwright/tests/data"
OVAL = "http://oval.mitre.org/XMLSchema/oval"


def facts():
    """All facts, as (source, fixed version, [CVE ids])."""
    with gzip.open(DATA / "bookworm-security-facts.tsv.gz", "rt") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return [(source, fixed, cves.split(",")) for source, fixed, _, cves in rows]


def status():
    """A server's dpkg status as first released: without what stable updates append to versions."""
    text = gzip.decompress((DATA / "dpkg-status-bookworm-server-main-only.gz").read_bytes()).decode()
    return re.sub(r"^((?:Version|Source): .*?)\+deb12u[^)\n]*", r"\1", text, flags=re.M)


def installed(status):
    """The installed packages, as (name, version, source, source's version)."""
    packages = []
    for stanza in status.split("\n\n"):
        field = dict(re.findall(r"^(Package|Status|Version|Source): (.*)$", stanza, re.M))
        if field.get("Status", "").endswith(" installed"):
            source = re.match(r"(\S+)(?: \((\S+)\))?$", field.get("Source", field["Package"]))
            version = field["Version"]
            packages.append((field["Package"], version, source[1], source[2] or version))
    return packages


def signed(package):
    """Whether a package was built from a signed copy of its source (`linux-signed-amd64`)."""
    return re.search(r"-signed(-|$)", package[2]) is not None


def unsigned_source(package):
    return re.sub(r"-signed(-.*)?$", "", package[2])


def versioned_apart(package):
    """Whether the binary's version is not its source's. OVAL judges binaries: what fixes such a
    one cannot be told from facts about sources. Rebuilds (`+b1`) order as their source does."""
    name, version, source, source_version = package
    return not signed(package) and re.sub(r"\+b\d+$", "", version) != source_version


def osv(facts):
    """OSV records, one a line, one for each CVE, as Debian publishes them."""
    lines = []
    for source, fixed, cves in facts:
        for cve in cves:
            lines.append(json.dumps({
                "schema_version": "1.7.0",
                "id": f"TEST-{len(lines)}",
                "modified": "2026-11-21T00:00:00Z",
                "aliases": [cve],
                "affected": [{
                    "package": {"ecosystem": "Debian:12", "name": source},
                    "ranges": [{
                        "type": "ECOSYSTEM",
                        "events": [{"introduced": "0"}, {"fixed": fixed}],
                    }],
                }],
            }))
    return "\n".join(lines).encode() + b"\n"


def debsecan(facts):
    """debsecan's format: names, then `package,name,flags,fixed version,`, then nothing."""
    numbers = {cve: number for number, cve in enumerate(sorted({cve for _, _, cves in facts for cve in cves}))}
    lines = ["VERSION 1"]
    lines += [f"{cve},," for cve in numbers]
    lines.append("")
    lines += [f"{source},{numbers[cve]},S  F,{fixed}," for source, fixed, cves in facts for cve in cves]
    return zlib.compress(("\n".join(lines) + "\n\n\n").encode())


def oval(facts, packages):
    """OVAL definitions, one for each fact, with a test for each binary package of its source.

    Facts do not name binaries: they are taken from what is installed, and for a source of which
    nothing is, its own name stands for its binaries. A distributor's document has more.
    """
    binaries = defaultdict(list)
    for package in packages:
        if not versioned_apart(package):
            binaries[unsigned_source(package)].append(package[0])
    linux = f"{OVAL}-definitions-5#linux"
    objects, states = {}, {}
    definitions, tests = [], []
    for number, (source, fixed, cves) in enumerate(facts, 1):
        # The epoch is always written.
        state = states.setdefault(fixed if ":" in fixed else f"0:{fixed}", len(states) + 1)
        criteria = []
        for binary in binaries.get(source, [source]):
            thing = objects.setdefault(binary, len(objects) + 1)
            test = f"oval:peers:tst:{len(tests) + 1}"
            comment = quoteattr(f"{binary} is earlier than {fixed}")
            tests.append(
                f'<dpkginfo_test xmlns="{linux}" id="{test}" version="1" check="at least one" '
                f'check_existence="at_least_one_exists" comment={comment}>'
                f'<object object_ref="oval:peers:obj:{thing}"/>'
                f'<state state_ref="oval:peers:ste:{state}"/></dpkginfo_test>'
            )
            criteria.append(f'<criterion test_ref="{test}" comment={comment}/>')
        references = "".join(
            f'<reference source="CVE" ref_id="{cve}" ref_url="https://www.cve.org/CVERecord?id={cve}"/>'
            for cve in cves
        )
        definitions.append(
            f'<definition id="oval:peers:def:{number}" version="1" class="patch"><metadata>'
            f"<title>{escape(source)} {escape(fixed)}</title>"
            f'<affected family="unix"><platform>Debian 12</platform></affected>{references}'
            f"<description>{escape(source)} before {escape(fixed)}</description></metadata>"
            f'<criteria operator="OR">{"".join(criteria)}</criteria></definition>'
        )
    things = [
        f'<dpkginfo_object xmlns="{linux}" id="oval:peers:obj:{number}" version="1">'
        f"<name>{escape(name)}</name></dpkginfo_object>"
        for name, number in objects.items()
    ]
    bounds = [
        f'<dpkginfo_state xmlns="{linux}" id="oval:peers:ste:{number}" version="1">'
        f'<evr datatype="debian_evr_string" operation="less than">{escape(evr)}</evr></dpkginfo_state>'
        for evr, number in states.items()
    ]
    join = "\n".join
    return f"""<?xml version="1.0" encoding="utf-8"?>
<oval_definitions xmlns="{OVAL}-definitions-5" xmlns:oval="{OVAL}-common-5">
<generator><oval:product_name>peers</oval:product_name><oval:schema_version>5.11.1</oval:schema_version>
<oval:timestamp>2026-11-21T00:00:00</oval:timestamp></generator>
<definitions>
{join(definitions)}
</definitions>
<tests>
{join(tests)}
</tests>
<objects>
{join(things)}
</objects>
<states>
{join(bounds)}
</states>
</oval_definitions>
""".encode()
