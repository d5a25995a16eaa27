//! The protos are the contract, so they must explain themselves.

use std::fs;

use crate::support::root;

/// At least two lines of comment for five lines of proto.
#[test]
fn protos_have_enough_comments() {
    for entry in fs::read_dir(root().join("proto/runhub/v1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//")).count();
        let code = text.lines().filter(|line| !line.trim().is_empty()).count() - comments;
        assert!(comments * 5 >= code * 2, "{}: {comments} lines of comment, {code} of proto", path.display());
    }
}
