use super::*;

/// Returns an open issue with its parents and its own blockers.
fn node(index: usize, parents: &[usize], blockers: &[usize]) -> Node {
    let (parents, blockers) = (parents.to_vec(), blockers.to_vec());
    Node { id: format!("i{index}"), line: index + 1, is_open: true, parents, blockers, ..Node::default() }
}

/// Returns open issues, each with its parents and its own blockers.
fn nodes(links: &[(&[usize], &[usize])]) -> Vec<Node> {
    links.iter().enumerate().map(|(index, (parents, blockers))| node(index, parents, blockers)).collect()
}

fn dependencies(nodes: &[Node]) -> Vec<Vec<usize>> {
    resolve(nodes).unwrap().into_iter().map(|waits| waits.dependencies).collect()
}

fn refusal(nodes: &[Node]) -> String {
    resolve(nodes).unwrap_err().to_string()
}

fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_seconds_and_nanos(seconds, 0)
}

#[test]
fn child_waits_for_the_open_blockers_of_its_parents_at_any_depth() {
    // 0 and 1 block the root 2, and 1 is closed. 3 is a child of 2, 4 of 3. 0 blocks 4 itself, too.
    let mut tree = nodes(&[(&[], &[]), (&[], &[]), (&[], &[0, 1]), (&[2], &[]), (&[3], &[1, 0])]);
    tree[1].is_open = false;
    assert_eq!(dependencies(&tree), [vec![], vec![], vec![0, 1], vec![0], vec![1, 0]]);
    let waits = resolve(&tree).unwrap();
    assert_eq!(waits.iter().map(|waits| waits.own_count).collect::<Vec<_>>(), [0, 0, 2, 0, 2]);
    // A closed issue between a blocked issue and its grandchild changes nothing, and waits for nothing itself.
    tree[3].is_open = false;
    tree[4].blockers.clear();
    assert_eq!(dependencies(&tree)[3..], [vec![], vec![0]]);
}

#[test]
fn child_with_several_parents_waits_for_the_blockers_of_each() {
    let tree = nodes(&[(&[], &[]), (&[], &[]), (&[], &[1]), (&[], &[0, 1]), (&[3, 2], &[]), (&[4], &[])]);
    assert_eq!(dependencies(&tree)[4..], [vec![0, 1], vec![0, 1]]);
}

#[test]
fn issue_is_deferred_as_long_as_its_parents() {
    let mut tree = nodes(&[(&[], &[]), (&[0], &[]), (&[1], &[]), (&[], &[])]);
    tree[0].defer_until = time(20);
    tree[1].defer_until = time(10);
    tree[2].defer_until = time(30);
    let times: Vec<_> = resolve(&tree).unwrap().iter().map(|waits| waits.defer_until).collect();
    assert_eq!(times, [time(20), time(20), time(30), None]);
}

#[test]
fn issue_waits_for_the_open_children_of_another_issue_or_for_the_issue_without_children() {
    // 1, 2 and 3 are children of 0. 2 is closed. 3 itself waits for the children of 0.
    let mut tree = nodes(&[(&[], &[]), (&[0], &[]), (&[0], &[]), (&[0], &[]), (&[], &[]), (&[], &[])]);
    tree[2].is_open = false;
    tree[3].waits_for_children_of = vec![0];
    tree[4].waits_for_children_of = vec![0];
    tree[5].waits_for_children_of = vec![4];
    assert_eq!(dependencies(&tree)[3..], [vec![1], vec![1, 3], vec![4]]);
    tree[1..4].iter_mut().for_each(|child| child.is_open = false);
    assert_eq!(dependencies(&tree)[4], [0; 0], "all children are closed");
}

#[test]
fn error_names_a_cycle_of_parents() {
    let tree = nodes(&[(&[], &[]), (&[2], &[]), (&[1], &[])]);
    assert_eq!(
        refusal(&tree),
        "line 2: parent: the parents form the cycle i1 -> i2 -> i1: remove one of these parents"
    );
    assert!(refusal(&nodes(&[(&[0], &[])])).contains("i0 -> i0"));
}

#[test]
fn error_names_a_cycle_of_dependencies_and_explains_inherited_ones() {
    assert!(refusal(&nodes(&[(&[], &[1]), (&[], &[0])])).contains("form the cycle i0 -> i1 -> i0"));
    // 1 is a child of 0, and blocks its own parent.
    let own_parent = refusal(&nodes(&[(&[], &[1]), (&[0], &[])]));
    assert!(own_parent.starts_with("line 2: dependencies: "), "{own_parent}");
    assert!(own_parent.contains("the cycle i1 -> i1, where i1 waits for i1 because i1 blocks a parent of i1"));
    // The cycle does not matter once the blocker is closed.
    let mut closed = nodes(&[(&[], &[1]), (&[0], &[])]);
    closed[1].is_open = false;
    assert_eq!(dependencies(&closed), [vec![1], vec![]]);
}

#[test]
fn description_of_a_long_cycle_is_shortened() {
    let cycle =
        |count: usize| -> Vec<Node> { (0..count).map(|index| node(index, &[], &[(index + 1) % count])).collect() };
    assert!(refusal(&cycle(19)).contains("i17 -> i18 -> i0"));
    let long = refusal(&cycle(100_000));
    assert!(long.contains("i17 -> i18 -> (99981 more) -> i0:"), "{long}");
}

#[test]
fn long_chain_of_parents_is_resolved() {
    let mut chain = nodes(&[(&[], &[]), (&[], &[0])]);
    chain.extend((2..100_000).map(|index| node(index, &[index - 1], &[])));
    let waits = resolve(&chain).unwrap();
    assert!(waits[1..].iter().all(|waits| waits.dependencies == [0]));
}

#[test]
fn chain_of_blocked_parents_is_refused_before_it_needs_too_much_memory() {
    let count = 100_000;
    let mut chain: Vec<Node> = (0..count).map(|index| node(index, &[], &[])).collect();
    chain.extend((count..2 * count).map(|index| {
        let parent = if index == count { None } else { Some(index - 1) };
        node(index, parent.as_slice(), &[index - count])
    }));
    assert!(refusal(&chain).contains("more than 1000000 dependencies together"));
}

#[test]
fn issue_with_too_many_blockers_is_refused() {
    let mut many: Vec<Node> = (0..=ISSUE_DEPENDENCIES).map(|index| node(index, &[], &[])).collect();
    let all: Vec<usize> = (0..many.len()).collect();
    many.push(node(many.len(), &[], &all));
    assert!(refusal(&many).contains("issue i10001 waits for more than 10000 issues"));
    many.last_mut().unwrap().blockers.pop();
    assert!(resolve(&many).is_ok());
}
