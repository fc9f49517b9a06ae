//! Checks a published output against its manifest.

mod footers;

use crate::counted::counted;
use crate::error::JobError;
use crate::input::Input;
use crate::input::footer::Footer;
use crate::input::format::InputFormat;
use crate::input::source::Source;
use crate::journal::{JournalReader, schema};
use crate::publish::format::OutputFormat;
use crate::publish::local::{entries, holds};
use crate::publish::manifest::{self, ColumnNulls, Manifest, Part};
use crate::publish::remote::reservation::Reservation;
use crate::publish::remote::{manifest_key, manifest_key_inside};
use crate::receipt;
use crate::store::bucket::{Bucket, ObjectVersion};
use crate::store::location::state_dir_beside;
use crate::store::location::{Location, ObjectUrl};
use crate::store::object::Object;
use crate::store::{self, error::StoreError};
use arrow::array::Array;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{FileMetaData, ParquetMetaDataReader};
use parquet::file::reader::Length;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was found of an output that is as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub rows: u64,
    pub files: usize,
    /// Where its manifest would be, if there is none and only the footers of its files were read.
    pub without_manifest: Option<String>,
}

/// Checks that an output is whole and as it was published: names, sizes, digests, rows, the identity in each footer,
/// and the nulls of kept columns against the input's; where its journal is, also that it is of that job. Without a
/// manifest, checks what the footers tell.
///
/// # Errors
/// [`JobError::Io`] or [`JobError::Store`] if there is no output; [`JobError::NotAsPublished`] with all that is
/// wrong; [`JobError::ReceiptNotAsWritten`] if that is the receipt alone.
pub fn verify(output: &Location) -> Result<Verified, JobError> {
    let found = match output {
        Location::Local(path) => verify_local(path),
        Location::Object(url) => verify_remote(url),
    };
    let Found { verified, problems, of_receipt } = found.map_err(|error| unpublished(output, error))?;
    match (problems.is_empty(), of_receipt.is_empty()) {
        (true, true) => Ok(verified),
        (true, false) => {
            Err(JobError::ReceiptNotAsWritten { output: output.to_string(), problems: of_receipt.join("\n") })
        }
        (false, _) => Err(JobError::NotAsPublished {
            output: output.to_string().into(),
            problems: [problems, of_receipt].concat().join("\n"),
        }),
    }
}

/// The error that there is no output, with what its job has done so far, if there is one.
fn unpublished(output: &Location, error: JobError) -> JobError {
    let absent = match &error {
        JobError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        JobError::Store { error, .. } => matches!(error, StoreError::NoObject),
        _ => false,
    };
    let so_far = || -> Option<(u64, u64)> {
        let state_dir = output.state_dir(None).ok()?;
        if !schema::path(&state_dir).is_file() {
            return None;
        }
        let journal = JournalReader::open(&state_dir).ok()?;
        let rows = journal.inputs().rows();
        Some((journal.finished(rows).ok()?, rows))
    };
    match so_far().filter(|_| absent) {
        Some((finished, rows)) => JobError::Usage(format!(
            "{output} is not there to be verified: its job has finished {finished} of the {} of its input and has not published \
             them, or the output was moved away. `gristmill status {output}` says more; the command of the job goes on with it",
            counted(rows, "row")
        )),
        None => error,
    }
}

/// What is wrong with an output, and with the receipt beside it.
struct Found {
    verified: Verified,
    problems: Vec<String>,
    of_receipt: Vec<String>,
}

impl Found {
    fn of_output((verified, problems): (Verified, Vec<String>)) -> Found {
        Found { verified, problems, of_receipt: Vec::new() }
    }
}

fn by_manifest(manifest: &Manifest) -> Verified {
    Verified { rows: manifest.rows, files: manifest.parts.len(), without_manifest: None }
}

fn verify_local(output: &Path) -> Result<Found, JobError> {
    let named = match output.file_name() {
        Some(_) => output.to_path_buf(),
        // As `.`, which has no name to find the manifest by.
        None => output.canonicalize().map_err(JobError::io("find", output))?,
    };
    let output = named.as_path();
    let state_dir = state_dir_beside(output);
    let is_folder = std::fs::metadata(output).map_err(JobError::io("find", output))?.is_dir();
    let (beside, inside) = (state_dir.join(manifest::NAME), output.join(manifest::NAME));
    let next = Manifest::find(&state_dir, manifest::NEXT);
    if let Some(next) = next.filter(|next| holds(output, next).unwrap_or(false)) {
        // It was killed before its last step.
        let problems = check_local(output, is_folder, &next)?;
        let problems = [problems, other_job(&state_dir, &next)].concat();
        return Ok(Found::of_output((by_manifest(&next), problems)));
    }
    let known = |path: &PathBuf| path.symlink_metadata().is_ok();
    let by_footers = || -> Result<_, JobError> {
        let files = if is_folder { entries(output)? } else { vec![output.to_path_buf()] };
        let files = files.into_iter().filter(|path| *path != inside).map(Source::local);
        Ok(footers::check(files, &beside.display().to_string()))
    };
    let Some(path) = [&beside, &inside].into_iter().find(|path| known(path)) else {
        return by_footers().map(Found::of_output);
    };
    let manifest = match read_manifest(&manifest::read_text(path)?, path)? {
        Text::AsWritten(manifest) => manifest,
        Text::Edited(problem) => return Ok(Found::of_output(without(problem, output, by_footers()?))),
    };
    let mut problems = Vec::new();
    if *path == beside && is_folder && known(&inside) && Manifest::read(&inside)? != manifest {
        problems.push(format!("{} and {} differ", inside.display(), beside.display()));
    }
    problems.extend(check_local(output, is_folder, &manifest)?);
    problems.extend(other_job(&state_dir, &manifest));
    let of_receipt = receipt::problems(&state_dir, &manifest);
    Ok(Found { verified: by_manifest(&manifest), problems, of_receipt })
}

/// Checks an output on this machine.
fn check_local(output: &Path, is_folder: bool, manifest: &Manifest) -> Result<Vec<String>, JobError> {
    let find = |part: &Part| {
        Ok(Source::local(if is_folder { output.join(&part.name) } else { output.to_path_buf() }))
    };
    let mut problems = check_parts(manifest, find);
    if is_folder {
        problems.extend(unpublished_files(output, manifest)?);
    }
    Ok(problems)
}

fn verify_remote(url: &ObjectUrl) -> Result<Found, JobError> {
    let bucket = store::open(url)?;
    let (beside, inside) = (manifest_key(url), manifest_key_inside(url));
    let single = bucket.head(&url.key)?.is_some();
    let mut found = None;
    for key in [&beside, &inside] {
        if found.is_none()
            && let Some(text) = bucket.get(key)?
        {
            found = Some((url.with_key(key), text));
        }
    }
    let by_footers = || -> Result<_, JobError> {
        let beside = url.with_key(beside.clone()).to_string();
        let object = |version| Object { bucket: bucket.clone(), url: url.clone(), version };
        let objects = if single {
            bucket.head(&url.key)?.into_iter().collect()
        } else {
            bucket.list(&url.key, true)?
        };
        let is_part = |object: &ObjectVersion| object.key != inside;
        let objects: Vec<ObjectVersion> = objects.into_iter().filter(is_part).collect();
        if objects.is_empty() {
            return Err(JobError::Store { doing: "find", url: beside, error: StoreError::NoObject });
        }
        let objects = objects.into_iter().map(|version| {
            let url = url.with_key(version.key.clone());
            Source::Object(Object { url, ..object(version) })
        });
        Ok(footers::check(objects, &beside))
    };
    let Some((at, text)) = found else { return by_footers().map(Found::of_output) };
    if let Some(reservation) = Reservation::parse(&text) {
        return Err(JobError::Usage(format!(
            "{url} is not published: {} has its place, {at}, and has not put a manifest there yet",
            reservation.holder()
        )));
    }
    let manifest = match read_manifest(&text, Path::new(&at.to_string()))? {
        Text::AsWritten(manifest) => manifest,
        Text::Edited(problem) => {
            return Ok(Found::of_output(without(problem, Path::new(&url.key), by_footers()?)));
        }
    };
    let part_url = |part: &Part| {
        if single { url.clone() } else { url.with_key(format!("{}/{}", url.key, part.name)) }
    };
    let mut problems =
        check_parts(&manifest, |part| Object::find(&bucket, part_url(part)).map(Source::Object));
    if !single {
        problems.extend(unpublished_objects(&bucket, url, &manifest)?);
    }
    Ok(Found::of_output((by_manifest(&manifest), problems)))
}

/// The text of a manifest.
enum Text {
    AsWritten(Manifest),
    /// What is wrong with it.
    Edited(String),
}

fn read_manifest(text: &[u8], path: &Path) -> Result<Text, JobError> {
    let manifest = Manifest::parse(text, path)?;
    if manifest.is_sealed(text) {
        return Ok(Text::AsWritten(manifest));
    }
    let why = "the manifest is not as it was written: its own digest does not match, and so the output was not compared with it";
    Ok(Text::Edited(format!("{}: {why}", path.display())))
}

/// What is found where the manifest was edited, which then tells nothing of output and job: what the footers tell, where the
/// files have any.
fn without(problem: String, output: &Path, by_footers: (Verified, Vec<String>)) -> (Verified, Vec<String>) {
    let (verified, found) = by_footers;
    let parquet = OutputFormat::of_name(&output.to_string_lossy()) == Ok(OutputFormat::Parquet);
    (verified, [vec![problem], if parquet { found } else { vec![] }].concat())
}

/// What tells that an output is not that of the job whose journal is beside it.
fn other_job(state_dir: &Path, manifest: &Manifest) -> Vec<String> {
    let path = schema::path(state_dir);
    if !path.is_file() {
        return vec![];
    }
    let journal = match JournalReader::open(state_dir) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::info!("the output is not compared with its journal: {error}");
            return vec![];
        }
    };
    let mut differences = journal.identity().differences(&manifest.identity);
    let inputs = manifest::inputs_digest(journal.inputs());
    if manifest.inputs_blake3.as_ref().is_some_and(|published| *published != inputs) {
        differences += "\n  it was made of other inputs";
    }
    if manifest.rows > journal.inputs().rows() {
        differences += "\n  it has more rows than the inputs of the journal";
    }
    if differences.is_empty() {
        return vec![];
    }
    let differences = differences.trim_start_matches('\n');
    vec![format!("it is the output of another job than that of {}:\n{differences}", path.display())]
}

/// Checks what the manifest says of itself, and each part.
fn check_parts(manifest: &Manifest, find: impl Fn(&Part) -> Result<Source, JobError>) -> Vec<String> {
    let mut problems = Vec::new();
    if manifest.identity.digest() != manifest.identity_blake3 {
        problems.push("the manifest's identity is not that of its digest".to_string());
    }
    let mut next = 0;
    let mut nulls = vec![NullCount::default(); manifest.nulls.len()];
    for part in &manifest.parts {
        if part.first_row != next {
            problems.push(format!("{}: it begins at row {}, not {next}", part.name, part.first_row));
        }
        next = part.first_row.saturating_add(part.rows);
        if Path::new(&part.name).file_name() != Some(OsStr::new(&part.name)) {
            problems.push(format!("the manifest names a part {:?}, which is no name of a file", part.name));
            continue;
        }
        let checked = find(part).map_err(|error| error.to_string()).and_then(|source| {
            check_part(&source, part, manifest)
                .and_then(|()| match format_of(part) {
                    OutputFormat::Parquet => count_nulls(&source, manifest, &mut nulls),
                    _ if nulls.is_empty() => Ok(()),
                    _ => count_nulls_of_lines(&lines_of(&source, part)?, manifest, &mut nulls),
                })
                .map_err(|problem| format!("{}: {problem}", source.name().display()))
        });
        problems.extend(checked.err());
    }
    // What could not be counted is no count.
    if problems.is_empty() {
        problems
            .extend(manifest.nulls.iter().zip(&nulls).filter_map(|(column, count)| count.differs(column)));
    }
    if next != manifest.rows {
        problems.push(format!("the parts have {next} rows, but the manifest has {}", manifest.rows));
    }
    problems
}

fn check_part(source: &Source, part: &Part, manifest: &Manifest) -> Result<(), String> {
    let open = source.open().map_err(|error| error.to_string())?;
    let size = open.len();
    if size != part.bytes {
        return Err(format!("it has {size} bytes, but {} were published", part.bytes));
    }
    let digest = source.digest().map_err(|error| error.to_string())?;
    if digest != part.blake3 {
        return Err(format!("its BLAKE3 is {digest}, but {} was published", part.blake3));
    }
    if format_of(part) != OutputFormat::Parquet {
        // Where no column is compared, the columns need not be known: results of a batch have others in each line.
        let format = format_of(part).as_input();
        let plain = format == InputFormat::Jsonl && manifest.nulls.is_empty();
        let format = if plain { InputFormat::Lines } else { format };
        let rows = Input::of_source(source, format).map_err(|error| error.to_string())?.rows;
        return if rows == part.rows {
            Ok(())
        } else {
            Err(format!("it has {rows} rows, but {} were published", part.rows))
        };
    }
    let footer = ParquetMetaDataReader::new().parse_and_finish(&open).map_err(|error| error.to_string())?;
    let footer = footer.file_metadata();
    if u64::try_from(footer.num_rows()) != Ok(part.rows) {
        return Err(format!("it has {} rows, but {} were published", footer.num_rows(), part.rows));
    }
    let identity = serde_json::to_string(&manifest.identity).map_err(|error| error.to_string())?;
    for (key, wanted) in [
        (manifest::IDENTITY_KEY, identity),
        (manifest::VERSION_KEY, manifest.version.clone()),
        (manifest::FIRST_ROW_KEY, part.first_row.to_string()),
    ] {
        if value(footer, key) != Some(&wanted) {
            return Err(format!("its footer's {key} is not {wanted}"));
        }
    }
    Ok(())
}

fn format_of(part: &Part) -> OutputFormat {
    OutputFormat::of_name(&part.name).unwrap_or(OutputFormat::Parquet)
}

/// A part that is JSON lines or CSV, as an input.
fn lines_of(source: &Source, part: &Part) -> Result<Input, String> {
    Input::of_source(source, format_of(part).as_input()).map_err(|error| error.to_string())
}

fn value<'a>(footer: &'a FileMetaData, key: &str) -> Option<&'a String> {
    footer.key_value_metadata()?.iter().find(|entry| entry.key == key)?.value.as_ref()
}

/// Files of the output folder that were not published.
fn unpublished_files(output: &Path, manifest: &Manifest) -> Result<Vec<String>, JobError> {
    let known = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name == manifest::NAME || manifest.parts.iter().any(|part| name == part.name.as_str())
    };
    let others = entries(output)?.into_iter().filter(|path| !known(path));
    Ok(others.map(|path| format!("{}: not published", path.display())).collect())
}

/// Objects below the output that were not published.
fn unpublished_objects(
    bucket: &Arc<dyn Bucket>,
    url: &ObjectUrl,
    manifest: &Manifest,
) -> Result<Vec<String>, JobError> {
    let key = |name: &str| format!("{}/{name}", url.key);
    let mut found = bucket.list(&url.key, true)?;
    found.retain(|object| {
        object.key != key(manifest::NAME) && !manifest.parts.iter().any(|part| object.key == key(&part.name))
    });
    Ok(found.iter().map(|object| format!("{}: not published", url.with_key(&*object.key))).collect())
}

/// Rows of an output with null in a column.
#[derive(Clone, Debug, Default)]
struct NullCount {
    /// All.
    null: u64,
    /// Those without an error.
    without_error: u64,
}

impl NullCount {
    /// What is wrong with the counts of a column.
    fn differs(&self, published: &ColumnNulls) -> Option<String> {
        let ColumnNulls { column, null, unreadable, input } = published;
        let theirs = input.unwrap_or(null.saturating_sub(*unreadable));
        if self.null != *null {
            return Some(format!("column {column}: it has {} nulls, but {null} were published", self.null));
        }
        // A value that cannot be read may stand in the input's count or not.
        if self.without_error > theirs || null.saturating_sub(*unreadable) > theirs {
            return Some(format!(
                "column {column}: it has {} nulls in rows without an error, but the input has {theirs} nulls",
                self.without_error
            ));
        }
        if theirs > *null {
            return Some(format!("column {column}: it has {null} nulls, but the input has {theirs}"));
        }
        None
    }
}

/// Adds the nulls of a part's kept columns, which come first and in the manifest's order; `error` is the fifth after
/// them.
fn count_nulls(source: &Source, manifest: &Manifest, counts: &mut [NullCount]) -> Result<(), String> {
    if counts.is_empty() {
        return Ok(());
    }
    let open = source.open().map_err(|error| error.to_string())?;
    let footer = Footer::read(&open, &source.name()).map_err(|error| error.to_string())?;
    let rows = footer.row_counts().map_err(|error| error.to_string())?;
    let names = footer.file().schema().fields().iter().map(|field| field.name());
    let kept = counts.len();
    if !names.take(kept).eq(manifest.nulls.iter().map(|nulls| &nulls.column)) {
        return Err("its columns are not those of the manifest".into());
    }
    let by_footer = footer.null_counts();
    for (column, count) in counts.iter_mut().enumerate() {
        // Most columns have no null, or no error that could excuse one: the footer is enough.
        if let Some(null) =
            by_footer[column].filter(|&null| null == 0 || manifest.nulls[column].unreadable == 0)
        {
            count.null = count.null.saturating_add(null);
            count.without_error = count.without_error.saturating_add(null);
            continue;
        }
        let columns = [column, kept + 4];
        for group in 0..rows.len() {
            let metadata = footer.group(group).map_err(|error| error.to_string())?;
            let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open.clone(), metadata);
            let reader = reader.with_projection(mask).build().map_err(|error| error.to_string())?;
            for batch in reader {
                let batch = batch.map_err(|error| error.to_string())?;
                let Some(nulls) = batch.column(0).logical_nulls() else { continue };
                let error = batch.column(1);
                count.null += nulls.null_count() as u64;
                let alone = (0..batch.num_rows()).filter(|&row| nulls.is_null(row) && error.is_null(row));
                count.without_error += alone.count() as u64;
            }
        }
    }
    Ok(())
}

/// The same of JSON lines or CSV.
fn count_nulls_of_lines(part: &Input, manifest: &Manifest, counts: &mut [NullCount]) -> Result<(), String> {
    let kept = counts.len();
    let names = part.schema.fields().iter().take(kept).map(|field| field.name());
    if part.rows > 0 && !names.eq(manifest.nulls.iter().map(|nulls| &nulls.column)) {
        return Err("its columns are not those of the manifest".into());
    }
    let error = part.schema.fields().get(kept + 4).map(|_| kept + 4);
    for (column, count) in counts.iter_mut().enumerate() {
        let null = part.nulls.get(column).copied().flatten().unwrap_or(0);
        count.null += null;
        if null == 0 || manifest.nulls[column].unreadable == 0 {
            count.without_error += null;
            continue;
        }
        for batch in part.read([column].into_iter().chain(error).collect(), 0..part.rows) {
            let batch = batch.map_err(|error| error.to_string())?.columns;
            let is_null = |column: usize, row| {
                batch.column(column).logical_nulls().is_some_and(|nulls| nulls.is_null(row))
            };
            let alone =
                (0..batch.num_rows()).filter(|&row| is_null(0, row) && (error.is_none() || is_null(1, row)));
            count.without_error += alone.count() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
