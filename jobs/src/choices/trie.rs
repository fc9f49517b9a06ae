//! The labels of a column as a tree of tokens.

/// One node: the tokens of all labels that begin alike so far. The first is the root, where no token of a label has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node before it, and the place of its token among that one's `next`.
    pub parent: usize,
    pub place: usize,
    /// Tokens from the root to it.
    pub depth: usize,
    /// Its token; that of the root does not matter.
    pub token: u32,
    /// The tokens that may follow, without the end.
    pub next: Vec<u32>,
    /// The label that ends here.
    pub label: Option<usize>,
}

/// The labels of a column as a tree of tokens, in depth-first order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trie {
    pub nodes: Vec<Node>,
    pub labels: usize,
}

impl Trie {
    /// The tree of labels, each a sequence of at least one token.
    ///
    /// # Errors
    /// Two labels of the same tokens.
    pub fn new(labels: &[Vec<u32>]) -> Result<Trie, (usize, usize)> {
        // In the order of their tokens, labels that begin alike lie side by side.
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| labels[a].cmp(&labels[b]).then(a.cmp(&b)));
        let root = Node { parent: 0, place: 0, depth: 0, token: 0, next: Vec::new(), label: None };
        let mut trie = Trie { nodes: vec![root], labels: labels.len() };
        let mut path = vec![0];
        let mut before: Option<usize> = None;
        for label in order {
            let tokens = &labels[label];
            let common = before
                .map_or(0, |before| labels[before].iter().zip(tokens).take_while(|(a, b)| a == b).count());
            if let Some(before) = before.filter(|&before| labels[before] == *tokens) {
                return Err((before, label));
            }
            path.truncate(common + 1);
            for &token in &tokens[common..] {
                let (parent, node) = (path[path.len() - 1], trie.nodes.len());
                let place = trie.nodes[parent].next.len();
                trie.nodes[parent].next.push(token);
                let depth = path.len();
                trie.nodes.push(Node { parent, place, depth, token, next: Vec::new(), label: None });
                path.push(node);
            }
            trie.nodes[path[path.len() - 1]].label = Some(label);
            before = Some(label);
        }
        Ok(trie)
    }

    /// Tokens of the longest label.
    pub fn depth(&self) -> usize {
        self.nodes.iter().map(|node| node.depth).max().unwrap_or(0)
    }

    /// The log-probability of each label: those of its tokens and of the end behind them. `reported` holds, for each
    /// node, the log-probabilities of `next` and then, where a label ends, those of all end tokens.
    pub fn label_logprobs(&self, reported: &[Vec<f32>]) -> Vec<f64> {
        let mut reached = vec![0.0; self.nodes.len()];
        let mut labels = vec![f64::NEG_INFINITY; self.labels];
        for (i, (node, logprobs)) in self.nodes.iter().zip(reported).enumerate() {
            if i > 0 {
                reached[i] = reached[node.parent] + f64::from(reported[node.parent][node.place]);
            }
            if let Some(label) = node.label {
                let ends = logprobs[node.next.len()..].iter().map(|&logprob| f64::from(logprob));
                labels[label] = reached[i] + log_sum_exp(ends);
            }
        }
        labels
    }
}

/// The logarithm of the sum of exponentials.
pub fn log_sum_exp(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + logs.map(|log| (log - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_label_may_begin_another() {
        // "neg", "negative", "positive" as 1, 1 2, 3 2.
        let trie = Trie::new(&[vec![1], vec![1, 2], vec![3, 2]]).unwrap();
        let shape: Vec<_> = trie.nodes.iter().map(|n| (n.depth, n.next.as_slice(), n.label)).collect();
        let want: [(usize, &[u32], Option<usize>); 5] =
            [(0, &[1, 3], None), (1, &[2], Some(0)), (2, &[], Some(1)), (1, &[2], None), (2, &[], Some(2))];
        assert_eq!(shape, want);
        let ln = |p: f64| p.ln() as f32;
        let reported = [
            vec![ln(0.5), ln(0.25)],
            // Two end tokens.
            vec![ln(0.5), ln(0.125), ln(0.125)],
            vec![ln(0.5), ln(0.25)],
            vec![ln(1.0)],
            vec![ln(0.125), ln(0.125)],
        ];
        let labels = trie.label_logprobs(&reported);
        for (got, want) in labels.iter().zip([0.5 * 0.25, 0.5 * 0.5 * 0.75, 0.25 * 1.0 * 0.25_f64]) {
            assert!((got.exp() - want).abs() < 1e-7, "{labels:?}");
        }
    }

    #[test]
    fn labels_of_the_same_tokens_are_named() {
        assert_eq!(Trie::new(&[vec![1, 2], vec![3], vec![1, 2]]), Err((0, 2)));
    }
}
