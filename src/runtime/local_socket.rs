//! Sockets with a path, for programs of the same machine and user.
//!
//! A path may be longer than the 107 bytes that fit into a socket's address: the
//! directory is then named through `/proc/self/fd`. Blocking: not for a reactor.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Bytes of a path that fit into `sockaddr_un` with the zero behind them.
const PATH_BYTES_MAX: usize = 107;

/// Peers that may wait to be accepted.
const BACKLOG: i32 = 16;

/// A path that fits into an address, and what has to stay open for as long as it is used.
fn fitting(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path without a file name"));
    };
    let dir = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)?;
    Ok((Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name), Some(dir)))
}

/// Listens at `path`, for this user alone. A socket that an earlier process left there is
/// replaced: the caller holds a lock that says that nobody uses it.
///
/// # Errors
/// Something else than a socket is there, or the file system has no sockets.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (fitting, _dir) = fitting(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&fitting)?)?;
    // Before anybody can connect.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to who listens at `path`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (fitting, _dir) = fitting(path)?;
    UnixStream::connect(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn echo_once(path: &Path) {
        let listener = listen(path).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = connect(path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"abc").unwrap();
        let mut got = [0; 3];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"abc");
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        echo_once(&path);
        assert!(path.exists(), "closing leaves the file");
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        echo_once(&path);
        let other = dir.path().join("file");
        std::fs::write(&other, b"of value").unwrap();
        assert_eq!(listen(&other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&other).unwrap(), b"of value");
    }

    #[test]
    fn a_long_path_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut long = dir.path().to_owned();
        for _ in 0..4 {
            long.push("a-directory-with-quite-a-long-name-of-its-own-");
        }
        std::fs::create_dir_all(&long).unwrap();
        let path = long.join("corelog.sock");
        assert!(path.as_os_str().len() > PATH_BYTES_MAX);
        echo_once(&path);
        echo_once(&path);
    }
}
