//! How deep an expression may be: the parser bounds brackets within brackets, and not chains such as `1 + 1 + 1 + ...`,
//! whose tree is as deep as they are long.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// Operators, filters, attributes and calls that may stand in one expression, one on the other; and `elif` in a template.
const LONGEST: usize = 1000;

/// Refuses a template with an expression whose tree would be too deep to walk.
///
/// # Errors
/// Where it is. What is no token is left to the parser.
pub fn refuse_depth(source: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    // Of the expression in each open bracket, the outermost first.
    let mut chains = vec![0];
    let mut elifs = 0;
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        match token {
            Token::VariableStart | Token::BlockStart => chains = vec![0],
            Token::Comma | Token::Colon => *last(&mut chains) = 0,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                *last(&mut chains) += 1;
                chains.push(0);
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => drop(chains.pop()),
            Token::Ident("elif") => elifs += 1,
            token if deepens(&token) => *last(&mut chains) += 1,
            _ => {}
        }
        if elifs > LONGEST || chains.iter().sum::<usize>() > LONGEST {
            let what = if elifs > LONGEST { "`elif` in a template" } else { "operators in an expression" };
            let why = format!("more than {LONGEST} {what} (line {})", span.start_line);
            return Err(Error::new(ErrorKind::SyntaxError, why));
        }
    }
    Ok(())
}

/// The innermost expression. Brackets that nothing opened are left to the parser.
fn last(chains: &mut Vec<usize>) -> &mut usize {
    if chains.is_empty() {
        chains.push(0);
    }
    let at = chains.len() - 1;
    &mut chains[at]
}

/// Whether a token makes a node of the tree around the one before or after it.
fn deepens(token: &Token) -> bool {
    match token {
        Token::Ident(word) => ["not", "and", "or", "in", "is", "if", "else"].contains(word),
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::FloorDiv | Token::Pow | Token::Mod => {
            true
        }
        Token::Dot | Token::Tilde | Token::Pipe => true,
        Token::Eq | Token::Ne | Token::Gt | Token::Gte | Token::Lt | Token::Lte => true,
        _ => false,
    }
}
