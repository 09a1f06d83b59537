#!/usr/bin/python3
"""Writes the inputs from which fuzzing starts to fuzz/corpus/TARGET: real data, in small pieces.

A fuzzer that begins with nothing spends its time outside the parsers. What needs a tool that is
not installed (gpg, mke2fs, qemu-img, rpm) is left out, and said so.
"""
import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CRATES = HERE.parent / "crates"
STATUS = gzip.decompress((CRATES / "inspect/tests/data/dpkg-status-bookworm-minbase.gz").read_bytes())


def put(target, name, content):
    directory = HERE / "corpus" / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"seed-{name}").write_bytes(content)


def run(*command, given=None):
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, input=given, capture_output=True)
    return done.stdout


def parts(pieces):
    """Several byte strings as the crate `arbitrary` reads them: lengths from the end backwards,
    none for the last piece, each as wide as what is left demands."""
    built = pieces[-1]
    for piece in reversed(pieces[:-1]):
        built = piece + built
        left = len(built)
        width = 1 if left < 256 else 2 if left < 65_536 else 4
        used = min(width, max(1, (left.bit_length() + 7) // 8))
        built += len(piece).to_bytes(used, "big") + bytes(width - used)
    return built


def version_keys():
    versions = re.findall(rb"^Version: (\S+)$", STATUS, re.M)
    versions += [b"1.0~rc1^git", b"2:1.4.5-3.el9_2.1", b"1.2.3_rc4-r0", b"1.36.1_git20230101-r29"]
    for number, (a, b) in enumerate(zip(versions, versions[1:] + versions[:1])):
        put("version_keys", number, parts([a, b]))


def texts():
    stanzas = STATUS.split(b"\n\n")
    for number in range(0, len(stanzas), 9):
        put("deb822", number, b"\n\n".join(stanzas[number:number + 2]) + b"\n")
        put("dpkg_status", number, b"\n\n".join(stanzas[number:number + 3]) + b"\n")
    release = (CRATES / "collect/tests/data/InRelease-bookworm-security").read_bytes()
    put("deb822", "release", release[:3_000])
    logs = sorted(Path("/usr/share/doc").glob("*/changelog.Debian.gz"))[:200:5]
    for number, log in enumerate(logs):
        text = gzip.decompress(log.read_bytes()).decode(errors="ignore")
        put("changelog", number, text[:4_000].encode())
    installed = b"C:Q1p78yvTLG094tHE1+dToJGbmYzQE=\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\nF:lib\n\n"
    put("apkdb", "musl", installed)


def apt_sources():
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    for name, text in {
        "list": f"deb [arch=amd64,i386 signed-by={keyring}] http://deb.example.org/debian bookworm main\n"
                "# a comment\ndeb-src http://deb.example.org/debian bookworm main contrib\n"
                "deb cdrom:[Debian 12]/ bookworm main\ndeb file:/srv/repo ./\n",
        "deb822": f"Types: deb deb-src\nURIs: http://deb.example.org/debian https://u:p@example.org/d\n"
                  f"Suites: bookworm bookworm-updates\nComponents: main\nEnabled: yes\n"
                  f"Signed-By: {keyring}\n\nTypes: deb\nURIs: file:/srv\nSuites: ./\nTrusted: yes\n",
        "key": "Types: deb\nURIs: http://e.org\nSuites: a\nComponents: b\nSigned-By:\n"
               " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n",
        "conf": 'Acquire { http { Proxy "http://proxy:3128"; Proxy::archive.example.org "DIRECT"; }; };\n'
                '// comment\nAPT::Default-Release "bookworm";\n#clear APT::Architectures;\n'
                'Dir::Etc::SourceList "/etc/apt/sources.list";\n/* more */ APT::Lists { "a"; "b"; };\n',
    }.items():
        put("apt_sources", name, text.encode())


def records():
    lines = (CRATES / "collect/tests/data/almalinux9.osv.jsonl").read_bytes().splitlines()
    short = sorted(lines, key=len)[:12]
    for number, line in enumerate(short):
        put("osv", number, line)
    two = b"\n".join(short[:2]) + b"\n"
    put("osv", "lines", two)
    put("osv", "gzip", gzip.compress(two))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", short[0])
        archive.writestr("b.json", short[1])
    put("osv", "zip", held.getvalue())
    put("kev", "whole", (CRATES / "collect/tests/data/kev.json").read_bytes())
    put("kev", "short", b'{"title":"t","catalogVersion":"2025.08.25","dateReleased":'
        b'"2025-08-25T17:04:19.9796Z","count":1,"vulnerabilities":[{"cveID":"CVE-2024-1086",'
        b'"vendorProject":"Linux","product":"Kernel","dateAdded":"2024-05-30","dueDate":'
        b'"2024-06-20","knownRansomwareCampaignUse":"Known"}]}')
    digest = b"36" * 32
    put("rpm_repository", "index", b'\0<repomd><data type="primary"><checksum type="sha256">' + digest
        + b'</checksum><location href="repodata/primary.xml.gz"/></data></repomd>')
    put("rpm_repository", "list", b'\1<metadata><package type="rpm"><name>tool</name><arch>x86_64'
        b'</arch><version epoch="1" ver="1.0" rel="2"/><checksum type="sha256" pkgid="YES">' + digest
        + b'</checksum><size package="7316"/><format/></package></metadata>')


def release_signature(place):
    home = place / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
    text = b"Origin: Debian\nSuite: stable\nDate: Sat, 21 Nov 2026 10:00:00 UTC\n- dashed\nSHA256:\n"
    for number, kind in enumerate(["ed25519", "rsa2048"]):
        run(*gpg, "--quick-generate-key", f"k{number} <k{number}@example.org>", kind, "sign", "never")
        user = f"k{number}@example.org"
        key = run(*gpg, "--export", user)
        inline = run(*gpg, "-u", user, "--clearsign", given=text)
        detached = run(*gpg, "-u", user, "--detach-sign", given=text)
        armored = run(*gpg, "-u", user, "--armor", "--detach-sign", given=text)
        put("release_signature", f"{kind}-inline", parts([key, inline, b""]))
        put("release_signature", f"{kind}-detached", parts([key, text, detached]))
        put("release_signature", f"{kind}-armored", parts([run(*gpg, "--armor", "--export", user), text, armored]))
    run("gpgconf", "--homedir", home, "--kill", "all")


def small_root(place):
    root = place / "root"
    for path, content in {
        "etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
        "usr/lib/modules/6.1.0-1-amd64/x": b"",
        "var/lib/dpkg/status": STATUS[:3_000],
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "etc/link").symlink_to("os-release")
    return root


def disks(place):
    root = small_root(place)
    forms = {
        "ext4": ["-t", "ext4", "-b", "1024", "-O", "^has_journal"],
        "ext2": ["-t", "ext2", "-b", "1024"],
        "inline": ["-t", "ext4", "-b", "1024", "-I", "256", "-O", "inline_data,^has_journal"],
    }
    for name, options in forms.items():
        image = place / f"{name}.raw"
        run("/sbin/mke2fs", "-q", *options, "-N", "32", "-d", root, image, "128k")
        put("ext4_path", name, image.read_bytes())
    # The content of a qcow2 image does not matter to its reader: little of it, compressible.
    raw = place / "content.raw"
    raw.write_bytes((b"text" * 1024 + bytes(4096)) * 4)
    for name, options in {
        "plain": "cluster_size=512",
        "old": "cluster_size=512,compat=0.10",
        "zstd": "cluster_size=4k,compression_type=zstd",
        "extended": "cluster_size=16k,extended_l2=on",
    }.items():
        for packed in ([], ["-c"]):
            image = place / f"{name}.qcow2"
            run("qemu-img", "convert", "-O", "qcow2", *packed, "-o", options, raw, image)
            put("qcow2", name + "".join(packed), image.read_bytes())


def rpm_header(tags):
    """A header as rpm keeps it: counts, index of (tag, type, offset, count), data."""
    index, data = b"", b""
    for tag, value in tags:
        kind = 6 if isinstance(value, bytes) else 4
        if kind == 4:
            data += bytes(-len(data) % 4)
        index += b"".join(n.to_bytes(4, "big") for n in (tag, kind, len(data), 1))
        data += value + b"\0" if kind == 6 else value.to_bytes(4, "big")
    return len(tags).to_bytes(4, "big") + len(data).to_bytes(4, "big") + index + data


def rpm_databases(place):
    header = rpm_header([(1000, b"bash"), (1001, b"5.1.8"), (1002, b"9.el9"), (1003, 1),
                         (1022, b"x86_64"), (1044, b"bash-5.1.8-9.el9.src.rpm")])
    put("rpmdb", "header", b"\0" + header)
    import sqlite3
    database = place / "rpmdb.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        connection.executemany("INSERT INTO Packages(blob) VALUES (?)", [(header,)] * 3)
    put("rpmdb", "sqlite", b"\2" + database.read_bytes())
    for backend in ("ndb", "sqlite"):
        home = place / backend
        run("rpm", "--initdb", "--dbpath", home, "--define", f"_db_backend {backend}")
        for name, form in (("Packages.db", b"\1"), ("rpmdb.sqlite", b"\2")):
            if (home / name).exists():
                put("rpmdb", f"{backend}-empty", form + (home / name).read_bytes())


def layers(place):
    root = small_root(place)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.add(root, ".")
    put("oci", "layer", b"\0" + held.getvalue())


def lab():
    put("lab_boot_loader", "grub", b"""set default="0"
set timeout=5
menuentry 'Debian GNU/Linux' --class debian {
\tload_video
\tsearch --no-floppy --fs-uuid --set=root 0a1b
\tlinux /boot/vmlinuz-6.1.0-9-amd64 root=UUID=0a1b ro quiet
\tinitrd /boot/initrd.img-6.1.0-9-amd64
}
submenu 'Advanced options' {
\tmenuentry 'recovery' {
\t\tlinux /vmlinuz root=LABEL=root ro single
\t}
}
""")
    socket = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0"
    put("lab_guest", "picture", json.dumps({
        "say": "picture", "boot_id": "1", "kernel_release": "6.1.0-9-amd64", "kernel_version": "#1 SMP", "uptime_ms": 1,
        "took_ms": 1, "os_release": "ID=debian\n", "dpkg_status": STATUS[:2000].decode(), "boot_files": ["vmlinuz-6.1.0-9-amd64"],
        "units": "Id=nginx.service\nActiveState=active\nSubState=running\n", "manager": "Version=252\n",
        "sockets": {"tcp": f"  sl  local_address\n{socket}\n"}, "processes": [], "filesystems": [], "special_files": [],
        "touched": [], "configuration": {}, "package_files": {}, "journal_errors": "", "unit_journal": "",
        "reboot_required": None, "probes": [], "problems": [],
    }).encode())
    console = b"[    0.000000] Linux version 6.1.0-9-amd64 (d@d) #1 SMP\r\nDebian GNU/Linux 12 web-1 ttyS0\r\n\r\nweb-1 login: "
    for number, text in enumerate((console, b"grub rescue> ", b"Kernel panic - not syncing: VFS: Unable to mount root fs")):
        put("drivers_console", number, parts([text[:20], text[20:]]))
    prompts = (b"spine1#", b"FGT-1 # ", b"", b"r1# ", b"R1#", b"o@edge-1> ", b"", b"leaf-1# ", b"", b"<core-1>", b"v@gw-1:~$ ")
    for model, prompt in enumerate(prompts):
        answer = b"show\r\nhostname r1\r\n--More-- \r         \rend\r\nreturn\r\n" + prompt
        put("device_session", model, bytes([model]) + parts([b"hello\r\n" + prompt, prompt, prompt, answer, answer]))
    depends = re.findall(rb"^Depends: (.+)$", STATUS, re.M)
    for number in range(0, len(depends), 9):
        put("relations", number, parts([depends[number], b"awk, libfoo2 (= 2.0)"]))


def policies():
    default = (CRATES / "domain/data/sla/x1642-default.toml").read_text()
    put("sla_policy", "default", default.encode())
    blocks = re.findall(r"```toml\n(.*?)```", (HERE.parent / "docs/sla.md").read_text(), re.S)
    for number, block in enumerate(blocks):
        put("sla_policy", f"docs-{number}", block.encode())
    for number, line in enumerate((
        'high.deadline = "21d"\nhigh.escalate = [10, 99]',
        'regulations = ["bod-26-04", "fedramp-vdr-moderate"]\ncritical.evaluate = "2h"',
        'calendar.zone = "Australia/Lord_Howe"\nlow.approval = { mode = "required", answer = "5bd", silence = "waits" }',
        'medium.notice = { preset = "fedramp-scn-adaptive" }\nmedium.deferrals = { count = 0, longest = "0h" }',
    )):
        put("sla_policy", f"line-{number}", f'version = "x-{number}"\n{line}\n'.encode())


def consents():
    def canonical(document):
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def signed(kind, name, digest, said):
        subject = [{"name": name, "digest": {"sha256": digest}}]
        return canonical({"_type": "https://in-toto.io/Statement/v1", "subject": subject,
                          "predicateType": f"urn:patchwright:{kind}:v1", "predicate": said})

    change, tenant, item, user = (f"{kind}_01h455vb4pex5vsknk084sn02q" for kind in ("chg", "ten", "ci", "usr"))
    package = {"name": "openssl", "architecture": "amd64", "version": "3.0.15-1", "sha256": "7" * 64}
    actions = [{"do": "upgrade", "packages": [package]}, {"do": "restart_unit", "unit": "nginx.service"},
               {"do": "write_file", "path": "/etc/motd", "before": None, "after": "8" * 64},
               {"do": "probe", "probe": "http"}, {"do": "reboot"}]
    back = {"by": "packages", "packages": [package]}
    stage = {"window": {"from": "2027-01-17T08:00:00Z", "until": "2027-01-17T20:00:00Z"},
             "items": [{"ci": item, "duty": "provider", "actions": actions, "rollback": back}]}
    plan = {"change": change, "tenant": tenant, "generation": 0, "stages": [stage]}
    document = canonical({"schema": "patchwright.plan/1", "plan": plan})
    put("consent", "plan", document)
    digest = hashlib.sha256(document).hexdigest()
    put("consent", "successor", canonical(
        {"schema": "patchwright.plan/1", "plan": {**plan, "generation": 1, "parent": digest}}))
    risk = {"reason": "Quarter-end close", "risk_owner": "Ada", "expiry": "2027-02-01T00:00:00Z"}
    for name, decision in {
        "yes": {"is": "approve"},
        "later": {"is": "defer", "until": "2027-01-20T00:00:00Z", "acceptance": risk},
        "no": {"is": "refuse", "acceptance": risk},
    }.items():
        said = {"change": change, "plan": digest, "tenant": tenant, "decision": decision,
                "given_at": "2027-01-15T08:00:00Z", "nonce": "1" * 32}
        put("consent", name, signed("consent", change, digest, said))
    rule = {"tenant": tenant, "kinds": ["patch"], "priorities": ["medium"], "items": {"on": "these", "items": [item]},
            "disruption": "restarts", "windows": [{"begins": 9120, "minutes": 720}], "from": "2027-01-01T00:00:00Z",
            "until": "2028-01-01T00:00:00Z", "given_at": "2027-01-01T00:00:00Z", "nonce": "2" * 32}
    digest = hashlib.sha256(canonical(rule)).hexdigest()
    put("consent", "rule", signed("standing-consent", "standing consent", digest, rule))
    key = {"id": "5" * 64, "kind": "ed25519", "holder": user}
    for name, order in {"add": {"do": "add", "key": key}, "revoke": {"do": "revoke", "key": "5" * 64}}.items():
        said = {"tenant": tenant, "order": order, "nonce": "3" * 32}
        put("consent", name, signed("key-order", "key", "5" * 64, said))


def passkeys():
    """What an authenticator and a browser say, to the challenge of the statement that the target signs."""
    statement = b'{"_type":"https://in-toto.io/Statement/v1"}'
    kind = b"application/vnd.in-toto+json"
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)
    asked = base64.urlsafe_b64encode(hashlib.sha256(encoded).digest()).rstrip(b"=").decode()
    browser = {"type": "webauthn.get", "challenge": asked, "origin": "https://cloud.example.org", "crossOrigin": False}
    here = hashlib.sha256(b"cloud.example.org").digest()
    envelope = {"payload": base64.b64encode(statement).decode(), "payloadType": kind.decode(), "assertion": {
        "keyid": "5" * 64, "authenticatorData": "AAAA", "clientDataJSON": "e30=", "signature": "AAAA"}}
    for name, said, flags in (("good", browser, 5), ("framed", {**browser, "crossOrigin": True}, 5), ("absent", browser, 0)):
        answer = here + bytes([flags, 0, 0, 0, 9])
        put("passkey", name, parts([answer, json.dumps(said).encode(), json.dumps(envelope).encode()]))


def main():
    version_keys()
    passkeys()
    policies()
    consents()
    texts()
    apt_sources()
    lab()
    records()
    for make in (release_signature, disks, rpm_databases, layers):
        place = Path(tempfile.mkdtemp())
        try:
            make(place)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            print(f"warning: no seeds of {make.__name__}: {error} {said.decode(errors='replace')}", file=sys.stderr)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    for target in sorted(os.listdir(HERE / "corpus")):
        seeds = list((HERE / "corpus" / target).glob("seed-*"))
        print(f"{target}: {len(seeds)} seeds, {sum(seed.stat().st_size for seed in seeds)} bytes")


if __name__ == "__main__":
    main()
