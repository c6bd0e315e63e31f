use super::*;

#[test]
fn codes_are_sorted_and_each_is_there_once() {
    assert!(RULES.is_sorted_by(|a, b| a.code < b.code));
}

#[test]
fn what_would_not_deploy_cannot_be_allowed() {
    assert!(rule("path.outside").is_some_and(|rule| !rule.is_policy()));
    assert!(rule("image.latest").is_some_and(Rule::is_policy));
}

#[test]
fn a_code_is_found_by_what_people_remember_of_it() {
    assert_eq!(nearest_code("latest"), Some("image.latest"));
    assert_eq!(nearest_code("service.no-healthchek"), Some("service.no-healthcheck"));
    assert_eq!(nearest_code("nothing of the kind"), None);
}
