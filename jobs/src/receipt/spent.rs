//! What the receipt beside an output says that its job cost.

use crate::publish::manifest::{self, Manifest};
use crate::receipt::{self, NAME};
use std::path::Path;

/// What a job cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    pub money: f64,
    /// Rows for it, errors among them.
    pub rows: u64,
}

impl Spent {
    /// By the receipt in a state_dir, at the price that is given or else at the job's own; none if there is neither.
    ///
    /// # Errors
    /// Why a price that is given says nothing, in words.
    pub fn of(state_dir: &Path, price_per_hour: Option<f64>) -> Result<Option<Spent>, String> {
        let manifest = Manifest::find(state_dir, manifest::NAME);
        let Some(receipt) = receipt::read(state_dir, manifest.as_ref())? else {
            let name = state_dir.join(NAME);
            let why = format!("there is no receipt {}, which says how long the job took", name.display());
            return if price_per_hour.is_some() { Err(why) } else { Ok(None) };
        };
        let money = match price_per_hour {
            Some(price) => receipt["active_seconds"].as_f64().map(|seconds| price * seconds / 3600.0),
            None => receipt["money"]["job"].as_f64(),
        };
        Ok(money.zip(receipt["rows"].as_u64()).map(|(money, rows)| Spent { money, rows }))
    }

    /// For each right label, if so many rows of these have one; rows that were not compared count as those that were.
    pub fn per_right_label(self, right: u64, of: u64) -> Option<f64> {
        let labels = self.rows as f64 * right as f64 / of as f64;
        (of > 0 && labels > 0.0).then(|| self.money / labels)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::receipt::money::Money;
    use crate::receipt::{Receipt, write};

    #[test]
    fn money_for_each_right_label_is_as_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Spent::of(folder.path(), None), Ok(None));
        assert!(Spent::of(folder.path(), Some(1.0)).unwrap_err().contains("there is no receipt"));
        let money = Money { job: Some(6.0), ..Money::default() };
        let receipt = Receipt { active_seconds: 7200.0, rows: 200, money, ..Receipt::default() };
        let text = receipt.to_json();
        write(folder.path(), &text).unwrap();
        let own = Spent::of(folder.path(), None).unwrap().unwrap();
        assert_eq!(own, Spent { money: 6.0, rows: 200 });
        let given = Spent::of(folder.path(), Some(2.0)).unwrap().unwrap();
        assert_eq!(given, Spent { money: 4.0, rows: 200 });
        // 3 of 4 rows are right, so 150 of 200.
        assert_eq!(own.per_right_label(3, 4), Some(0.04));
        assert_eq!((own.per_right_label(0, 4), own.per_right_label(0, 0)), (None, None));
        write(folder.path(), &text.replace("\"rows\": 200", "\"rows\": 400")).unwrap();
        assert!(Spent::of(folder.path(), None).unwrap_err().contains("is not as it was written"));
    }
}
