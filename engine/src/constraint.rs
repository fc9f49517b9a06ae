//! What may come next in a row: the seam of structured output.

use std::fmt;

/// A rule over the tokens of an answer. One rule may serve many rows.
pub trait Constraint: Send + Sync + fmt::Debug {
    /// A matcher at the start of an answer.
    fn matcher(&self) -> Box<dyn Matcher>;
}

/// Why no token may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// None fits.
    DeadEnd(String),
    /// Which of them fit takes more work or memory to find out than is allowed.
    TooComplex(String),
    /// The constraint cannot tell, by no fault of the answer.
    Failed(String),
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (NoToken::DeadEnd(why) | NoToken::TooComplex(why) | NoToken::Failed(why)) = self;
        f.write_str(why)
    }
}

/// Follows one answer through its constraint. What it allows is a function of the tokens that it has accepted.
pub trait Matcher: Send + fmt::Debug {
    /// Sets bit `t % 32` of word `t / 32` for each token `t` that may come next; all bits are 0 before.
    ///
    /// # Errors
    /// Why none may come. The row ends with that.
    fn fill_mask(&mut self, mask: &mut [u32]) -> Result<(), NoToken>;

    /// Takes note of the next token.
    fn accept(&mut self, token: u32);

    /// Tokens that must come next, one after the other: where the last mask has allowed a single token, that token and those
    /// after it. Once the first has been accepted, a mask allows the second alone, and so on. Empty where there is a choice.
    fn forced(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Whether the answer is whole and nothing but an end token may come next; the row then ends without it.
    fn is_ended(&self) -> bool {
        false
    }
}
