//! Topic exchanges: binding keys are patterns of words between dots.
//!
//! `*` stands for exactly one word, `#` for any number of words, none included, and only as whole
//! words; `a*` is a word like any other. The empty key has no words at all, while `a.` has two, the
//! second one empty (both as RabbitMQ splits keys).
//!
//! The patterns form a tree of words:
//!
//! ```text
//! root ── "stock" ── * ── "nyse" → q1        stock.*.nyse
//!    │         └──── # → q2                  stock.#
//!    └──── # ── "error" → q3                 #.error
//! ```
//!
//! A key is matched by walking the tree with all possible places at once, word by word. A `#` node
//! stays where it is for any word. The work is bounded by words times places, so that no set of
//! patterns makes a message expensive beyond the number of patterns that look like its key.

use super::{Targets, WordScratch};
use crate::meta::Destination;
use std::collections::HashMap;
use std::sync::Arc;

const ROOT: u32 = 0;

/// The tree of patterns.
#[derive(Debug)]
pub struct Topic {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<str>, u32>,
    /// The child for `*`.
    one: Option<u32>,
    /// The child for `#`.
    many: Option<u32>,
    /// This node is the child for `#` of its parent.
    is_many: bool,
    targets: Targets,
}

impl Default for Topic {
    fn default() -> Self {
        Topic { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Topic {
    pub(super) fn bind(&mut self, to: Destination, pattern: &Arc<str>) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at as usize].targets.add(to);
    }

    pub(super) fn unbind(&mut self, to: Destination, pattern: &Arc<str>) {
        let mut path = vec![ROOT];
        for word in words(pattern) {
            match self.child(path[path.len() - 1], word) {
                Some(child) => path.push(child),
                None => return,
            }
        }
        self.nodes[path[path.len() - 1] as usize].targets.remove(to);
        // Cut off what leads nowhere any more.
        let names: Vec<&str> = words(pattern).collect();
        for depth in (1..path.len()).rev() {
            let node = &self.nodes[path[depth] as usize];
            if !node.targets.is_empty() || !node.words.is_empty() || node.one.is_some() || node.many.is_some()
            {
                break;
            }
            let parent = &mut self.nodes[path[depth - 1] as usize];
            match names[depth - 1] {
                "*" => parent.one = None,
                "#" => parent.many = None,
                word => {
                    parent.words.remove(word);
                }
            }
            self.nodes[path[depth] as usize] = Node::default();
            self.free.push(path[depth]);
        }
    }

    fn child(&self, at: u32, word: &str) -> Option<u32> {
        let node = &self.nodes[at as usize];
        match word {
            "*" => node.one,
            "#" => node.many,
            word => node.words.get(word).copied(),
        }
    }

    fn add_child(&mut self, at: u32, word: &str) -> u32 {
        let node = Node { is_many: word == "#", ..Node::default() };
        let child = match self.free.pop() {
            Some(child) => {
                self.nodes[child as usize] = node;
                child
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        let parent = &mut self.nodes[at as usize];
        match word {
            "*" => parent.one = Some(child),
            "#" => parent.many = Some(child),
            word => {
                parent.words.insert(word.into(), child);
            }
        }
        child
    }

    pub(super) fn route(&self, key: &str, out: &mut Vec<Destination>, scratch: &mut WordScratch) {
        scratch.active.clear();
        self.enter(ROOT, &mut scratch.active);
        for word in words(key) {
            scratch.next.clear();
            for &at in &scratch.active {
                let node = &self.nodes[at as usize];
                if node.is_many {
                    // Its own `#` child was entered together with it, and stays as well.
                    scratch.next.push(at);
                }
                if let Some(child) = node.one {
                    self.enter(child, &mut scratch.next);
                }
                if let Some(&child) = node.words.get(word) {
                    self.enter(child, &mut scratch.next);
                }
            }
            std::mem::swap(&mut scratch.active, &mut scratch.next);
            // Only a `#` node is reached in more than one way.
            scratch.active.sort_unstable();
            scratch.active.dedup();
            if scratch.active.is_empty() {
                return;
            }
        }
        for &at in &scratch.active {
            self.nodes[at as usize].targets.append_to(out);
        }
    }

    /// A place, and the places reached from it without a word: `#` may stand for none.
    fn enter(&self, at: u32, places: &mut Vec<u32>) {
        let mut next = Some(at);
        while let Some(at) = next {
            places.push(at);
            next = self.nodes[at as usize].many;
        }
    }

    /// How many nodes the tree has, for tests of the pruning.
    #[cfg(test)]
    pub(super) fn live_nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

/// The words of a key: none for the empty key.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}
