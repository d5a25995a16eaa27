//! This module refuses patterns that use the path or pattern syntax of another tool. Runhub takes this syntax literally,
//! so such a pattern would match no file that its author means.

/// Checks that a new pattern does not use the syntax of another tool. Fails with an error that describes the violated
/// rule. `Glob::parse` accepts these patterns, because a database can contain patterns from before this check.
pub fn check_syntax(pattern: &str) -> Result<(), String> {
    let Some((rule, way_out)) = find_violation(pattern) else { return Ok(()) };
    Err(format!("the path pattern must {rule}: {way_out} {pattern:?}"))
}

/// Returns the first rule that the pattern violates, with the correction, or None if the pattern violates no rule.
fn find_violation(pattern: &str) -> Option<(&'static str, &'static str)> {
    let rules = [
        (pattern.contains(char::is_control), "not contain control characters", "remove the control characters of"),
        (pattern.trim() != pattern, "not begin or end with a blank", "remove the leading or trailing blanks of"),
        (has_drive_letter(pattern), "be relative to the repository", "remove the drive letter of"),
        (pattern.contains('\\'), "not contain a backslash", "use / instead of the backslash in"),
        (pattern.starts_with('~'), "be relative to the repository, not to a home folder", "remove the leading ~ of"),
        (
            pattern.starts_with('!'),
            "not begin with !, because a pattern can't exclude paths",
            "remove the leading ! of",
        ),
        (has_alternatives(pattern), "not contain alternatives", "pass one pattern for each alternative of"),
    ];
    rules.into_iter().find(|(is_violated, ..)| *is_violated).map(|(_, rule, way_out)| (rule, way_out))
}

/// Returns whether the pattern begins with a drive letter of Windows, for example `C:`.
fn has_drive_letter(pattern: &str) -> bool {
    let mut letters = pattern.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic()) && letters.next() == Some(':')
}

/// Returns whether the pattern contains alternatives, for example `{a,b}`. Braces without a comma are literal, because
/// `routes/{id}.ts` can be the name of a file.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0_usize;
    for (at, letter) in pattern.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth > 0 => return pattern[at..].contains('}'),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_of_another_tool_is_refused_with_the_rule_and_the_pattern() {
        for (pattern, rule) in [
            ("src\\main.rs", "backslash"),
            ("a\\*", "backslash"),
            ("C:", "drive letter"),
            ("c:/src", "drive letter"),
            ("C:\\src", "drive letter"),
            ("~", "home folder"),
            ("~/src", "home folder"),
            ("~me/src", "home folder"),
            ("!src/**", "exclude"),
            ("src/\u{7}", "control characters"),
            ("src\n", "control characters"),
            ("src/a\tb", "control characters"),
            (" src", "blank"),
            ("src/** ", "blank"),
            ("\u{a0}src", "blank"),
            ("src/{a,b}.rs", "alternatives"),
            ("{a,b}", "alternatives"),
            ("{a/b,c}/*", "alternatives"),
            ("{a{b},c}", "alternatives"),
            ("{,a}", "alternatives"),
        ] {
            let problem = check_syntax(pattern).expect_err(pattern);
            assert!(problem.contains(rule) && problem.ends_with(&format!("{pattern:?}")), "{pattern:?}: {problem}");
        }
    }

    #[test]
    fn names_that_files_can_have_are_accepted() {
        for pattern in [
            "app/[slug]/page.tsx",
            "app/[...all]/**",
            "routes/{id}.ts",
            "a,b",
            "{a},b",
            "a}b,c",
            "{a,b",
            "docs/a b.md",
            "a~",
            "src/~a",
            "a!",
            "src/!a",
            "ab:c",
            "1:a",
            "src/C:",
            "@scope/**",
            "#a",
            "é/*",
        ] {
            assert_eq!(check_syntax(pattern), Ok(()), "{pattern:?}");
        }
    }
}
