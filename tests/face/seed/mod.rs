//! The seed, row by row: a test for each method of the class RunStore, named after it, that pins what the class did.
//! Where the class was wrong, the test pins the right thing and says so.

mod records;
mod runs;
mod tasks;
