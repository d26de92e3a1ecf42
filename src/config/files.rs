//! Reading small files: what is no regular file may never end, or never begin.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The largest configuration file, in bytes.
pub(super) const CONFIGURATION_MAX: usize = 1 << 20;

/// The largest file with a secret, in bytes.
pub(super) const SECRET_MAX: usize = 64 * 1024;

/// The largest PEM file, in bytes: ten certificates with their text have less than a tenth.
pub(super) const PEM_MAX: usize = 1 << 20;

/// Reads a file of at most so many bytes.
///
/// # Errors
///
/// Those of the system, and `InvalidInput` for what is no regular file or is larger.
pub(super) fn read(path: &Path, bytes_max: usize) -> io::Result<Zeroizing<String>> {
    // Opening a FIFO would wait for its writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    read_open(&mut file, bytes_max)
}

/// The same, of a file that is open.
pub(super) fn read_open(file: &mut File, bytes_max: usize) -> io::Result<Zeroizing<String>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let what = "it is not a regular file";
        return Err(io::Error::new(ErrorKind::InvalidInput, what));
    }
    // With room for all, so that growing leaves no copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut text = Zeroizing::new(String::with_capacity(room.min(bytes_max) + 1));
    file.take(bytes_max as u64 + 1).read_to_string(&mut text)?;
    if text.len() > bytes_max {
        let what = format!("it is larger than {} KiB", bytes_max / 1024);
        return Err(io::Error::new(ErrorKind::InvalidInput, what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn error(path: &Path, bytes_max: usize) -> String {
        read(path, bytes_max).unwrap_err().to_string()
    }

    #[test]
    fn files_have_a_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (name, most) in [("64 KiB", SECRET_MAX), ("1024 KiB", CONFIGURATION_MAX)] {
            fs::write(&path, "x".repeat(most)).unwrap();
            assert_eq!(read(&path, most).unwrap().len(), most);
            fs::write(&path, "x".repeat(most + 1)).unwrap();
            assert_eq!(error(&path, most), format!("it is larger than {name}"));
        }
    }

    #[test]
    fn what_never_ends_or_begins_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [&fifo, Path::new("/dev/zero"), directory.path()] {
            assert_eq!(error(path, SECRET_MAX), "it is not a regular file");
        }
    }
}
