//! On which terms a key may be used, in the words of whoever made it. They outlive a configuration: what the names
//! in them mean (a [`super::Principal`]) is worked out anew for each. Keys on equal terms share one copy.

use std::collections::HashSet;
use std::sync::Arc;

use super::Network;
use crate::endpoint::EndpointSet;

/// What a key says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Name of its tenant.
    pub tenant: Arc<str>,
    /// Name of its tier, where it is not the tenant's.
    pub tier: Option<Arc<str>>,
    /// Patterns over model names, narrower than the tenant's.
    pub models: Option<Arc<[Box<str>]>>,
    /// Endpoints that it may call.
    pub endpoints: EndpointSet,
    /// Networks that it may be used from, within the tenant's; empty is all of those.
    pub networks: Arc<[Network]>,
}

/// Gives equal values out as one. What is held here only is let go from time to time, so that it stays in proportion
/// to what is in use.
#[derive(Debug)]
pub struct Interner<T> {
    known: HashSet<Arc<T>>,
    tidy_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), tidy_at: 0 }
    }
}

impl<T: Eq + std::hash::Hash> Interner<T> {
    /// `value`, or the one like it that is there already.
    pub fn intern(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.known.get(&value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.tidy_at.max(64) {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.tidy_at = self.known.len() * 2;
        }
        let value = Arc::new(value);
        self.known.insert(Arc::clone(&value));
        value
    }

    /// How many different values are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let first = interner.intern("a".to_owned());
        assert!(Arc::ptr_eq(&first, &interner.intern("a".to_owned())));
        for number in 0..10_000 {
            drop(interner.intern(number.to_string()));
        }
        assert!(interner.len() < 1_000, "{} values are held for one in use", interner.len());
        assert!(Arc::ptr_eq(&first, &interner.intern("a".to_owned())), "what is in use stays");
    }
}
