//! The seed: one test for each method of the class RunStore, named after the method. A test pins what the class did or,
//! where the class was wrong, the right behavior, with a note.

mod records;
mod runs;
mod tasks;
