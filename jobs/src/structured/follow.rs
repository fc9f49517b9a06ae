//! Which terminals of a grammar may follow which, as in the construction of LL parsers.

use llguidance::earley::{CGrammar, CSymIdx};
use std::collections::HashSet;

/// Words of sets that are joined, at most: a bound of the time that it takes.
const MOST_JOINED: usize = 50_000_000;

/// Words of all sets, at most: 8 MiB.
const MOST_WORDS: usize = 1 << 20;

/// Terminals, by their numbers, and the end of an answer, whose number is that of terminals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terminals(Vec<u64>);

/// The symbols of a grammar that answers reach.
pub(crate) struct Symbols<'a> {
    grammar: &'a CGrammar,
    order: Vec<CSymIdx>,
    /// By their numbers: whether they may be empty, what they begin with, and what may follow them.
    nullable: Vec<bool>,
    first: Vec<Terminals>,
    follow: Vec<Terminals>,
    rules: Vec<Rule<'a>>,
}

struct Rule<'a> {
    of: CSymIdx,
    symbols: &'a [CSymIdx],
}

impl Terminals {
    fn new(count: usize) -> Terminals {
        Terminals(vec![0; (count + 1).div_ceil(64)])
    }

    fn add(&mut self, terminal: usize) {
        self.0[terminal / 64] |= 1 << (terminal % 64);
    }

    /// Whether that makes it larger.
    fn join(&mut self, other: &Terminals) -> bool {
        let mut grown = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            grown |= more & !*word != 0;
            *word |= more;
        }
        grown
    }

    pub fn has(&self, terminal: usize) -> bool {
        self.0[terminal / 64] >> (terminal % 64) & 1 == 1
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|&terminal| self.has(terminal))
    }
}

impl<'a> Symbols<'a> {
    /// `None` if there is too much to look at.
    pub fn of(grammar: &'a CGrammar) -> Option<Symbols<'a>> {
        let count = grammar.lexer_spec().lexemes.len();
        let (mut order, mut reached) = (vec![grammar.start()], HashSet::from([grammar.start().as_index()]));
        let (mut rules, mut at) = (Vec::new(), 0);
        while let Some(&symbol) = order.get(at) {
            for rule in grammar.rules_of(symbol) {
                let symbols = grammar.rule_rhs(*rule).0;
                order.extend(symbols.iter().filter(|symbol| reached.insert(symbol.as_index())));
                rules.push(Rule { of: symbol, symbols });
            }
            at += 1;
        }
        let size = reached.iter().max().map_or(0, |last| last + 1);
        if 2 * size * Terminals::new(count).0.len() > MOST_WORDS {
            return None;
        }
        let mut nullable = vec![false; size];
        let mut first = vec![Terminals::new(count); size];
        let mut follow = first.clone();
        follow[grammar.start().as_index()].add(count);
        for &symbol in &order {
            let data = grammar.sym_data(symbol);
            nullable[symbol.as_index()] = data.is_nullable || !data.cond_nullable.is_empty();
            data.lexeme.iter().for_each(|lexeme| first[symbol.as_index()].add(lexeme.as_usize()));
        }
        let mut symbols = Symbols { grammar, order, nullable, first, follow, rules };
        symbols.join_all(count)?;
        Some(symbols)
    }

    fn join_all(&mut self, count: usize) -> Option<()> {
        let (mut left, words) = (MOST_JOINED, Terminals::new(count).0.len());
        let mut grows = true;
        while grows {
            grows = false;
            for rule in self.rules.iter().rev() {
                let mut begin = Terminals::new(count);
                for symbol in rule.symbols {
                    left = left.checked_sub(words)?;
                    begin.join(&self.first[symbol.as_index()]);
                    if !self.nullable[symbol.as_index()] {
                        break;
                    }
                }
                grows |= self.first[rule.of.as_index()].join(&begin);
            }
        }
        grows = true;
        while grows {
            grows = false;
            for rule in &self.rules {
                let mut next = self.follow[rule.of.as_index()].clone();
                for symbol in rule.symbols.iter().rev() {
                    left = left.checked_sub(2 * words)?;
                    grows |= self.follow[symbol.as_index()].join(&next);
                    self.go_back(symbol.as_index(), &mut next);
                }
            }
        }
        Some(())
    }

    /// From what may follow a symbol to what may follow the one before it.
    fn go_back(&self, symbol: usize, next: &mut Terminals) {
        if self.nullable[symbol] {
            next.join(&self.first[symbol]);
        } else {
            next.clone_from(&self.first[symbol]);
        }
    }

    /// Each terminal, and what may follow it anywhere.
    pub fn terminals(&self) -> impl Iterator<Item = (usize, &Terminals)> {
        self.order.iter().filter_map(|symbol| {
            let lexeme = self.grammar.sym_data(*symbol).lexeme?;
            Some((lexeme.as_usize(), &self.follow[symbol.as_index()]))
        })
    }

    /// The name of a rule that keeps all answers from their ends, its terminal that does, and what may follow that there, if some
    /// terminals do not end before what follows them.
    pub fn endless(
        &self,
        mut ends: impl FnMut(usize, &Terminals) -> Option<bool>,
    ) -> Option<Option<(&str, usize, Terminals)>> {
        let (mut endless, mut rules) = (None, Vec::new());
        for rule in &self.rules {
            let mut next = self.follow[rule.of.as_index()].clone();
            let mut all_end = true;
            for symbol in rule.symbols.iter().rev() {
                if let Some(lexeme) = self.grammar.sym_data(*symbol).lexeme
                    && !ends(lexeme.as_usize(), &next)?
                {
                    all_end = false;
                    endless.get_or_insert((self.grammar.sym_name(rule.of), lexeme.as_usize(), next.clone()));
                }
                self.go_back(symbol.as_index(), &mut next);
            }
            if all_end {
                rules.push(rule);
            }
        }
        if endless.is_none() || self.is_derived_by(rules) {
            return Some(None);
        }
        Some(endless)
    }

    /// Whether these rules make an answer.
    fn is_derived_by(&self, mut rules: Vec<&Rule<'_>>) -> bool {
        let mut made = self.nullable.clone();
        for symbol in &self.order {
            made[symbol.as_index()] |= self.grammar.rules_of(*symbol).is_empty();
        }
        let mut left = usize::MAX;
        while rules.len() < left {
            left = rules.len();
            rules.retain(|rule| {
                let whole = rule.symbols.iter().all(|symbol| made[symbol.as_index()]);
                made[rule.of.as_index()] |= whole;
                !whole
            });
        }
        made[self.grammar.start().as_index()]
    }
}
