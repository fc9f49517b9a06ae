//! The exit code of a cause.

use crate::error::JobError;
use crate::store::error::StoreError;
use engine::device::DeviceError;
use engine::error::EngineError;
use engine::file::FileError;
use std::io::ErrorKind;

/// All rows are done, and the errors among them stayed within `--max-error-rate` and `--max-errors`.
pub const EXIT_DONE: u8 = 0;
/// It failed by something that may pass: the same command may get past it later. Finished rows are kept.
pub const EXIT_FAILED: u8 = 1;
/// It was refused: the same command will be refused again, until somebody changes what the message names.
pub const EXIT_REFUSED: u8 = 2;
/// More rows have errors than `--max-error-rate` or `--max-errors` allow. They are published, unless `--stop-on-errors` says
/// otherwise.
pub const EXIT_TOO_MANY_ERRORS: u8 = 3;
/// The device failed; only a worker ends so, and its supervisor starts it again.
pub const EXIT_DEVICE_LOST: u8 = 70;
pub use crate::stop_signal::{EXIT_INTERRUPTED, EXIT_TERMINATED};

impl JobError {
    /// The exit code of this error, by its cause.
    pub fn exit_code(&self) -> u8 {
        match self {
            JobError::Usage(_)
            | JobError::Input { .. }
            | JobError::Template { .. }
            | JobError::Model { .. }
            | JobError::Hub { unreachable: false, .. }
            | JobError::JournalDamaged { .. }
            | JobError::JournalFormat { .. }
            | JobError::OtherIdentity { .. }
            | JobError::StateDirMoved { .. }
            | JobError::AlreadyBegun { .. }
            | JobError::NothingToResume { .. }
            | JobError::TakenOver { .. }
            | JobError::PublishedElsewhere { .. }
            | JobError::CheckpointDamaged { .. }
            | JobError::OtherShards { .. }
            | JobError::WrongShards { .. }
            | JobError::NothingToRetry { .. }
            | JobError::RetryFormat { .. }
            | JobError::Column { .. }
            | JobError::OutputExists { .. }
            | JobError::NotAsPublished { .. }
            | JobError::ReceiptNotAsWritten { .. } => EXIT_REFUSED,
            JobError::Hub { unreachable: true, .. }
            | JobError::Internal(_)
            | JobError::Changed { .. }
            | JobError::Claimed { .. }
            | JobError::Reserved { .. }
            | JobError::ClaimRemoved { .. }
            | JobError::StillAtWork { .. }
            | JobError::Journal { .. }
            | JobError::Locked { .. }
            | JobError::LockRemoved { .. }
            | JobError::AnsweredElsewhere { .. }
            | JobError::DoubleAnswer { .. }
            | JobError::Incomplete { .. }
            | JobError::UnfinishedShards { .. }
            | JobError::Encode { .. }
            | JobError::NoProgress { .. } => EXIT_FAILED,
            JobError::Io { source, .. } => of_io(source),
            JobError::Store { error, .. } => of_store(error),
            JobError::Engine(error) => of_engine(error),
            JobError::TooManyErrors { .. } => EXIT_TOO_MANY_ERRORS,
            JobError::Interrupted(signal) => signal.exit_code(),
        }
    }
}

fn of_io(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::DirectoryNotEmpty
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename
        | ErrorKind::AddrNotAvailable
        | ErrorKind::InvalidInput => EXIT_REFUSED,
        // Space, memory, too many open files, a network that does not answer, a disk that fails.
        _ => EXIT_FAILED,
    }
}

fn of_store(error: &StoreError) -> u8 {
    match error {
        StoreError::NoBucket
        | StoreError::NoObject
        | StoreError::Denied(_)
        | StoreError::NoCredentials { .. }
        | StoreError::Settings(_) => EXIT_REFUSED,
        StoreError::Changed | StoreError::Unreachable(_) | StoreError::Other(_) => EXIT_FAILED,
    }
}

fn of_engine(error: &EngineError) -> u8 {
    match error {
        EngineError::File(FileError::System { source, .. }) => of_io(source),
        EngineError::Config { .. }
        | EngineError::Architecture { .. }
        | EngineError::Weights { .. }
        | EngineError::Option { .. }
        | EngineError::Device(DeviceError::Unsupported { .. } | DeviceError::Absent(_)) => EXIT_REFUSED,
        EngineError::File(FileError::Changed { .. }) => EXIT_FAILED,
        // Another process may leave more memory later.
        EngineError::NoRoomForKv { .. }
        | EngineError::Device(DeviceError::OutOfMemory { .. })
        | EngineError::Request(_)
        | EngineError::Device(DeviceError::BadPlan(_) | DeviceError::BadStep(_)) => EXIT_FAILED,
        EngineError::Device(DeviceError::Lost { .. }) => EXIT_DEVICE_LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::device::MemoryUse;

    #[test]
    fn what_may_pass_is_told_from_what_must_be_changed() {
        let io = |error: std::io::Error| JobError::io("open", "x")(error).exit_code();
        assert_eq!(io(ErrorKind::NotFound.into()), EXIT_REFUSED);
        assert_eq!(io(ErrorKind::PermissionDenied.into()), EXIT_REFUSED);
        assert_eq!(io(ErrorKind::StorageFull.into()), EXIT_FAILED);
        assert_eq!(io(ErrorKind::OutOfMemory.into()), EXIT_FAILED);
        // Too many open files, and an error of the disk.
        #[cfg(unix)]
        assert_eq!(
            [libc::EMFILE, libc::EIO].map(|e| io(std::io::Error::from_raw_os_error(e))),
            [EXIT_FAILED; 2]
        );
        let store = |error| JobError::Store { doing: "read", url: "s3://a/b".into(), error }.exit_code();
        assert_eq!(store(StoreError::Unreachable("timeout".into())), EXIT_FAILED);
        assert_eq!(store(StoreError::Denied(String::new())), EXIT_REFUSED);
        let hub = |unreachable| JobError::Hub { model: "a".into(), why: "b".into(), unreachable }.exit_code();
        assert_eq!((hub(true), hub(false)), (EXIT_FAILED, EXIT_REFUSED));
        let (what, memory_use) = ("layers.0".to_string(), MemoryUse::Weights);
        let memory = DeviceError::OutOfMemory { what, needed: 2, available: 1, memory_use };
        assert_eq!(JobError::Engine(memory.into()).exit_code(), EXIT_FAILED);
        let absent = DeviceError::Absent("there is no driver".into());
        assert_eq!(JobError::Engine(absent.into()).exit_code(), EXIT_REFUSED);
    }
}
