#!/usr/bin/python3
"""One system, one feed, four readers: Patchwright, debsecan, OpenSCAP with OVAL, and syft.

    host.py PATCHWRIGHT HOST_MATCH DIRECTORY [RUNS]

Writes the same facts as OSV records, as debsecan's feed and as OVAL definitions, lets each tool
judge the same system, compares the answers pair by pair (package, CVE), then times them. Ends with
an error where an answer differs for a reason that is not known. `cargo xtask bench host` runs it.
"""
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import feeds

DEFINITIONS = "{http://oval.mitre.org/XMLSchema/oval-definitions-5}"
RESULTS = "{http://oval.mitre.org/XMLSchema/oval-results-5}"


def lay_out(directory):
    """The system and the feeds; returns what was written."""
    shutil.rmtree(directory, ignore_errors=True)
    root = directory / "root"
    status = feeds.status()
    facts, packages = feeds.facts(), feeds.installed(status)
    files = {
        "root/etc/os-release": b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
        "root/var/lib/dpkg/status": status.encode(),
        "records.jsonl": feeds.osv(facts),
        "debsecan/bookworm": feeds.debsecan(facts),
        "oval.xml": feeds.oval(facts, packages),
        "oval-part.xml": feeds.oval(facts[::40], packages),
        # This machine's own apt settings are none of the system's.
        "apt.conf": b'Dir::Etc::Parts "/dev/null";\n',
    }
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    # OpenSCAP asks libapt, which wants these to be there.
    for place in ("etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (root / place).mkdir(parents=True)
    tables = root / "usr/share/dpkg"
    tables.mkdir(parents=True)
    for name in ("cputable", "ostable", "tupletable"):
        shutil.copy(f"/usr/share/dpkg/{name}", tables)
    return facts, packages


def run(command, **environment):
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C", **environment}
    )
    if done.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` ended with {done.returncode}")
    return done.stdout


def measure(runs, command, **environment):
    """Median wall and CPU seconds of whole processes, then the least of both."""
    wall, cpu = [], []
    for _ in range(runs):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run(command, **environment)
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(wall), statistics.median(cpu), min(wall), min(cpu)


def pairs_of_report(report):
    found = json.loads(report)
    return {(item["package"], cve) for part in ("findings", "unfixed") for item in found[part] for cve in item["cves"]}


def pairs_of_debsecan(lines):
    return {tuple(reversed(line.split(" ", 1))) for line in lines.decode().splitlines() if line}


def pairs_of_oval(document, results):
    """The criteria that were true: each is one binary package before one fixed version."""
    definitions = xml.parse(document).getroot()
    package_of_object = {
        item.get("id"): item[0].text for item in definitions.find(f"{DEFINITIONS}objects")
    }
    package_of_test = {
        item.get("id"): package_of_object[item[0].get("object_ref")] for item in definitions.find(f"{DEFINITIONS}tests")
    }
    cves = {
        item.get("id"): [reference.get("ref_id") for reference in item.iter(f"{DEFINITIONS}reference")]
        for item in definitions.iter(f"{DEFINITIONS}definition")
    }
    pairs = set()
    for definition in xml.parse(results).getroot().iter(f"{RESULTS}definition"):
        for criterion in definition.iter(f"{RESULTS}criterion"):
            if criterion.get("result") == "true":
                package = package_of_test[criterion.get("test_ref")]
                pairs.update((package, cve) for cve in cves[definition.get("definition_id")])
    return pairs


def compare(ours, theirs, name, explained, why):
    """Says what differs. Only pairs that we found, of these packages, may."""
    extra, missed = ours - theirs, theirs - ours
    unexplained = missed | {pair for pair in extra if pair[0] not in explained}
    if unexplained:
        sys.exit(f"{name} and we differ: {sorted(unexplained)[:20]} ({len(unexplained)} pairs)")
    same = len(ours & theirs)
    print(f"{name}: {same} pairs the same, {len(extra)} are ours alone, none is theirs alone")
    if extra:
        print(f"  ours alone, because {why}: {', '.join(sorted({package for package, _ in extra}))}")


def components(document):
    found = json.loads(document)["components"]
    return {(item["name"], item["version"]) for item in found if item.get("purl", "").startswith("pkg:deb/")}


def ratio(theirs, ours):
    return f"{theirs / ours:,.0f} ×" if theirs >= 20 * ours else f"{theirs / ours:.1f} ×"


def main():
    patchwright, host_match, directory = (Path(path).resolve() for path in sys.argv[1:4])
    runs = int(sys.argv[4]) if len(sys.argv) > 4 else 9
    facts, packages = lay_out(directory)
    root = directory / "root"
    print(f"{len(packages)} packages, {len(facts)} fixed versions, {sum(len(cves) for _, _, cves in facts)} records")

    whole = [patchwright, "check", root, "--offline", "--data", directory / "data"]
    check = [*whole, "--osv", directory / "records.jsonl", "--format", "json"]
    debsecan = ["debsecan", "--suite", "bookworm", "--format", "simple",
                "--source", f"file://{directory}/debsecan", "--status", root / "var/lib/dpkg/status"]
    evaluate = ["oscap", "oval", "eval", "--skip-valid", "--results", directory / "results.xml"]
    oscap = [*evaluate, directory / "oval.xml"]
    alone = [*evaluate, "--id", "oval:peers:def:1", directory / "oval.xml"]
    offline = {"OSCAP_PROBE_ROOT": str(root), "APT_CONFIG": str(directory / "apt.conf")}
    syft = ["syft", "scan", f"dir:{root}", "--override-default-catalogers", "dpkg-db-cataloger", "-q", "-o"]
    there = {name: shutil.which(name) is not None for name in ("debsecan", "oscap", "syft")}
    for name in [name for name, found in there.items() if not found]:
        print(f"warning: `{name}` is not installed: NOT compared, NOT measured", file=sys.stderr)

    print("\nAnswers")
    ours = pairs_of_report(run(check))
    held = json.loads(run([host_match, root, directory / "records.jsonl"]))
    if {tuple(pair) for pair in held["pairs"]} != ours:
        sys.exit("the timed match and the report differ")
    theirs = set()
    if there["debsecan"]:
        signed = {package[0] for package in packages if feeds.signed(package)}
        why = "debsecan looks up the name of a signed copy, under which no advisory is published"
        found = pairs_of_debsecan(run(debsecan))
        compare(ours, found, "debsecan", signed, why)
        theirs |= found
    if there["oscap"]:
        run(["oscap", "oval", "validate", directory / "oval-part.xml"])
        run(oscap, **offline)
        apart = {package[0] for package in packages if feeds.versioned_apart(package)}
        why = "OVAL judges binaries, and facts about sources do not say their versions"
        found = pairs_of_oval(directory / "oval.xml", directory / "results.xml")
        compare(ours, found, "OpenSCAP", apart, why)
        theirs |= found
    if there["debsecan"] and there["oscap"]:
        if theirs != ours:
            sys.exit("some pairs are found by us alone")
        print(f"each of our {len(ours)} pairs is found by debsecan or by OpenSCAP as well")
    if there["syft"]:
        seen, expected = components(run([*syft, "cyclonedx-json"])), components(run([*whole, "--format", "cyclonedx"]))
        if seen != expected:
            sys.exit(f"syft and we list different packages: {sorted(seen ^ expected)[:20]}")
        print(f"syft: the same {len(seen)} packages and versions")

    match = held["match_seconds"]
    print(f"\nThe match alone, index held, {held['runs']} runs: median {match['median'] * 1e6:.0f} µs, "
          f"p99 {match['p99'] * 1e6:.0f} µs, worst {match['worst'] * 1e6:.0f} µs; "
          f"index built in {held['index_seconds'] * 1e3:.0f} ms, records read in {held['load_seconds'] * 1e3:.0f} ms; "
          f"inventory read in {held['inventory_seconds'] * 1e3:.1f} ms")
    print(f"\nWhole processes, {runs} runs: median wall, median CPU (best CPU); "
          "their median CPU as a multiple of our match alone, and of our whole process")
    own = measure(runs, check)
    rows = [("patchwright check --osv", own, own[1])]
    if there["debsecan"]:
        rows.append(("debsecan", measure(runs, debsecan), own[1]))
    if there["oscap"]:
        rows.append(("oscap oval eval --skip-valid", measure(runs, oscap, **offline), own[1]))
        rows.append(("  of it to load, one definition judged", measure(runs, alone, **offline), own[1]))
    for name, (wall, cpu, _, best), beside in rows:
        print(f"{name:40} {wall:7.3f} s {cpu:7.3f} s ({best:.3f})  {ratio(cpu, match['median']):>9}  {ratio(cpu, beside):>7}")
    if there["syft"]:
        few = max(1, runs // 3)
        listing = measure(few, [*whole, "--format", "cyclonedx"])
        theirs = measure(few, [*syft, "cyclonedx-json"])
        print(f"\nInventory, {few} runs: patchwright (with the check) {listing[0]:.3f} s wall, {listing[1]:.3f} s CPU; "
              f"syft {theirs[0]:.2f} s wall, {theirs[1]:.2f} s CPU: {ratio(theirs[1], listing[1])} of the whole process, "
              f"{ratio(theirs[1], held['inventory_seconds'])} of reading the inventory alone")


if __name__ == "__main__":
    main()
