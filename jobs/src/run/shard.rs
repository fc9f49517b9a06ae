//! The end of a shard: its files, and what it says of itself.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::EndedJournal;
use crate::journal::endings::Endings;
use crate::log::note;
use crate::options::shard::Shard;
use crate::publish::local::{ASIDE, aside, clear};
use crate::publish::publication::WrittenParts;
use crate::publish::target::Target;
use crate::receipt;
use crate::run::error_limits::first_error;
use crate::run::job::Job;
use crate::run::output::publication;
use crate::run::reading::read_rows;
use crate::shards::finished::{FinishedShard, ShardCosts};
use crate::shards::job::ShardedJob;
use crate::shards::place::ShardPlace;
use crate::supervise::worker::HeartbeatThread;

/// A shard of a job, and where it goes.
pub struct ShardRun {
    pub shard: Shard,
    pub place: ShardPlace,
    pub job: ShardedJob,
}

impl ShardRun {
    /// Prints which rows are the shard's.
    pub fn print(&self, job: &Job) {
        let rows = match job.range.clone() {
            rows if rows.is_empty() => "no rows".into(),
            rows => format!("rows {} to {}", rows.start, rows.end - 1),
        };
        note!("shard {}: {rows} of {}", self.shard, job.rows);
    }

    /// Writes the files of the shard to where publishing finds them, and says that it is finished. Gives how its rows ended.
    ///
    /// # Errors
    /// [`JobError::TooManyErrors`] if it alone has more than the whole job may have, with `--stop-on-errors`;
    /// as [`crate::publish::publication::Publication::publish`].
    pub fn finish(&self, job: &Job, target: &Target, journal: &EndedJournal) -> Result<Endings, JobError> {
        journal.check_in_place()?;
        let reader = &journal.reader;
        let endings = Endings::of(reader, job.range.end)?.shown();
        if job.options.stop_on_errors {
            // Those of earlier runs, too.
            job.error_limits().check(endings.error_rows(), job.rows, first_error(&endings), None)?;
        }
        let rows = job.range.end - job.range.start;
        let (text, lines) = receipt::freeze(journal, &job.folders.name, &job.options.prices, rows)?;
        let costs = ShardCosts {
            model: job.folders.name.clone(),
            starts: reader.database.starts()?,
            totals: reader.database.totals()?,
            endings: endings.clone(),
            prices: receipt::kept_prices(reader)?,
        };
        let _heartbeats = HeartbeatThread::start();
        let aside = aside(&job.options.state_dir)?;
        let finished = |written: WrittenParts| FinishedShard {
            shard: self.shard.number,
            first_row: job.range.start,
            rows,
            unreadable: written.unreadable,
            nulls: written.nulls,
            parts: written.parts,
            etags: Vec::new(),
            costs,
            job: self.job.clone(),
        };
        let results = job.results(reader.identity());
        let publication = publication(job, target, journal, results.as_ref());
        let kept = read_rows(&job.input, &job.kept, job.range.clone(), job.options.on_corrupt);
        match &self.place {
            ShardPlace::Local(local) => {
                let written = publication.write_parts(&aside, reader, kept, |_, _| Ok(()))?;
                journal.check_in_place()?;
                local.finish(&aside, &finished(written))?;
            }
            ShardPlace::Remote(remote) => {
                let mut upload = remote.upload(self.shard)?;
                let written = publication.write_parts(&aside, reader, kept, |path, part| {
                    upload.put(path, part)?;
                    std::fs::remove_file(path).map_err(JobError::io("remove", path))
                })?;
                journal.check_in_place()?;
                upload.finish(finished(written))?;
            }
        }
        clear(&job.options.state_dir.join(ASIDE))?;
        receipt::write(&job.options.state_dir, &text)?;
        note!("{lines}");
        let how = endings.to_string();
        let how = if how.is_empty() { how } else { format!(": {how}") };
        note!(
            "shard {}: {} finished{how}; `gristmill publish --shards {}` makes the output of all",
            self.shard,
            counted(rows, "row"),
            self.shard.of
        );
        Ok(endings)
    }
}
