//! Makes a .rpm of what is installed: the way back does not depend on a repository that may not have the
//! old version any more.
//!
//! The header is the vendor's own, byte for byte, as rpm keeps it. What it is put together with are the
//! files as they lie on the disk; so it is no package that its vendor signed, and is installed with no
//! question for signatures and digests. Where a file has another size than the header says, or is not
//! there, as many bytes stand in its place: it is kept apart, and given back.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::header::{Header, PackedFile};

/// Begins each header.
const MAGIC: [u8; 8] = [0x8E, 0xAD, 0xE8, 1, 0, 0, 0, 0];
/// Begins each package; the rest of the lead says nothing that anybody reads.
const LEAD_MAGIC: [u8; 4] = [0xED, 0xAB, 0xEE, 0xDB];
const LEAD: usize = 96;
/// The signature's only tag: the size of what follows it.
const SIZE_TAG: u32 = 1000;
const INT32: u32 = 4;

/// Stands in the place of content that is kept apart.
const STAND_IN: u8 = b'#';

/// Ends an archive.
const TRAILER: &str = "TRAILER!!!\0";
/// What `cpio(5)` says of a file in the new ASCII format.
const TRAILER_FIELDS: [usize; 13] = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, TRAILER.len(), 0];

/// Writes a package of files below a root.
pub(super) fn write(root: &Path, name: &str, header: &Header, to: &Path) -> io::Result<()> {
    let files = header.files().map_err(io::Error::other)?;
    if !header.is_cpio() {
        return Err(io::Error::other("its files are in no cpio archive"));
    }
    let beside = to.with_extension("new");
    let mut package = File::create(&beside)?;
    package.write_all(&lead(name))?;
    package.write_all(&signature())?;
    package.write_all(&MAGIC)?;
    package.write_all(header.bytes())?;
    let package = match header.compressor().as_str() {
        "gzip" => {
            let packed = flate2::write::GzEncoder::new(package, flate2::Compression::fast());
            archive(root, &files, packed)?.finish()?
        }
        "xz" => archive(root, &files, liblzma::write::XzEncoder::new(package, 0))?.finish()?,
        "zstd" => archive(root, &files, zstd::Encoder::new(package, 1)?)?.finish()?,
        other => {
            return Err(io::Error::other(format!("its files are packed with `{other}`")));
        }
    };
    package.sync_all()?;
    fs::rename(&beside, to)
}

fn lead(name: &str) -> Vec<u8> {
    let mut lead = LEAD_MAGIC.to_vec();
    // Version 3.0, a binary package, of whichever architecture.
    lead.extend([3, 0, 0, 0, 0, 1]);
    let name = &name.as_bytes()[..name.len().min(65)];
    lead.extend_from_slice(name);
    lead.resize(76, 0);
    // For Linux, with a signature that is a header.
    lead.extend([0, 1, 0, 5]);
    lead.resize(LEAD, 0);
    lead
}

/// A signature header that signs nothing. Its length is a multiple of eight, as it has to be.
fn signature() -> Vec<u8> {
    let words = [1, 4, SIZE_TAG, INT32, 0, 1, 0, 0];
    let words: Vec<_> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    // The last word fills up.
    [&MAGIC[..], &words[..]].concat()
}

/// All files that the package brings, each named by its place in the header, as rpm packs files of more
/// than four gigabytes.
fn archive<W: Write>(root: &Path, files: &[PackedFile], to: W) -> io::Result<W> {
    let mut names = HashMap::<_, Vec<usize>>::new();
    for (at, file) in files.iter().enumerate().filter(|(_, it)| it.is_regular() && !it.is_ghost()) {
        names.entry(file.identity).or_default().push(at);
    }
    let mut to = Padded { to, written: 0 };
    for (at, file) in files.iter().enumerate().filter(|(_, file)| !file.is_ghost()) {
        if !file.is_regular() {
            name(at, &mut to)?;
            if file.is_link() {
                to.write_all(file.target.as_os_str().as_bytes())?;
            }
            to.pad()?;
            continue;
        }
        // All names of one file stand together, where the first one is; the last one has the content.
        let all = names.get(&file.identity).map_or(&[][..], Vec::as_slice);
        if all.first() != Some(&at) {
            continue;
        }
        for at in all {
            name(*at, &mut to)?;
        }
        content(root, file, &mut to)?;
        to.pad()?;
    }
    write!(to, "070701")?;
    for field in TRAILER_FIELDS {
        write!(to, "{field:08x}")?;
    }
    to.write_all(TRAILER.as_bytes())?;
    to.pad()?;
    Ok(to.to)
}

fn name<W: Write>(at: usize, to: &mut Padded<W>) -> io::Result<()> {
    write!(to, "07070X{at:08x}")?;
    to.pad()
}

fn content(root: &Path, file: &PackedFile, to: &mut impl Write) -> io::Result<()> {
    let copied = if is_as_large(root, file)? {
        let place = below(root, &file.path);
        io::copy(&mut File::open(&place)?.take(file.size), to)?
    } else {
        io::copy(&mut io::repeat(STAND_IN).take(file.size), to)?
    };
    if copied == file.size {
        return Ok(());
    }
    let path = file.path.display();
    Err(io::Error::other(format!("`{path}` became shorter while it was read")))
}

/// Whether a file lies there with as many bytes as its package brought.
pub(super) fn is_as_large(root: &Path, file: &PackedFile) -> io::Result<bool> {
    match fs::symlink_metadata(below(root, &file.path)) {
        Ok(data) => Ok(data.is_file() && data.len() == file.size),
        Err(error) if is_nothing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nothing lies there.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn below(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Filled up to a multiple of four, as parts of the archive are.
struct Padded<W> {
    to: W,
    written: u64,
}

impl<W: Write> Padded<W> {
    fn pad(&mut self) -> io::Result<()> {
        let rest = usize::try_from(self.written.next_multiple_of(4) - self.written).unwrap_or(0);
        self.write_all(&[0; 4][..rest])
    }
}

impl<W: Write> Write for Padded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
