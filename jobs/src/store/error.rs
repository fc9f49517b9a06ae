//! Why an object store did not do what it was asked to.

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such bucket.
    #[error(
        "there is no such bucket; make it, or check its name and the store's endpoint in the environment"
    )]
    NoBucket,
    /// There is no such object.
    #[error("there is no such object, nor a folder with .parquet objects; check the name")]
    NoObject,
    /// The store does not let it be done.
    #[error(
        "access is denied{0}; check the credentials in the environment, and that they may read inputs, and \
             list, read, write and delete at the output"
    )]
    Denied(String),
    /// There are no credentials.
    #[error(
        "no credentials were found ({why}); set {variables} in the environment (other tools' files, as \
             ~/.aws/credentials, are not read)"
    )]
    NoCredentials {
        /// What was tried last.
        why: String,
        /// The variables to set.
        variables: &'static str,
    },
    /// It is not the object that was looked up.
    #[error("it has changed since the job looked it up; run the command again when nothing writes to it")]
    Changed,
    /// The environment's settings of the store cannot be used.
    #[error("the store's settings in the environment cannot be used: {0}")]
    Settings(String),
    /// No answer.
    #[error(
        "the store does not answer: {0}; finished rows are kept; run the same command again when it \
             does"
    )]
    Unreachable(String),
    /// Anything else.
    #[error("{0}; finished rows are kept; fix the cause and run the same command again")]
    Other(String),
}
