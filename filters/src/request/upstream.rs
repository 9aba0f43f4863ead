//! Model → server. [`health`] says which servers may be used, [`balance`] picks among them.

pub mod balance;
pub mod budget;
pub mod health;
pub mod queue;
