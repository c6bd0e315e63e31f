//! What containers, probes and programs say, for people: without values that may be secret. Those are taken out of the whole
//! text first; what is cut first might end in half a value, which nobody would know for one.

use evenkeel_core::{model::Model, release::SecretEnv};

/// Values of variables shorter than this are not taken out: too many words would vanish.
const MIN_SECRET_CHARS: usize = 6;
/// Most of a line that is shown.
const MAX_LINE: usize = 300;

/// Takes the values of variables out of a text: a log may repeat what it was given.
pub fn without_values(model: &Model, secrets: &SecretEnv, text: &str) -> String {
    let services = model.services();
    let given = services.values().flat_map(|s| [&s.value()["environment"], &s.value()["build"]["args"]]);
    let given = given.flat_map(|values| values.as_object().into_iter().flatten());
    // A secret may be a file of several lines, and what repeats it rarely has all of them.
    let secret = secrets.0.values().flat_map(|value| value.lines().flat_map(parts).chain([value.as_str()]));
    let values: Vec<&str> = given.filter_map(|(_, value)| value.as_str()).chain(secret).collect();
    // Compose writes each dollar sign of a model twice.
    let mut needles: Vec<String> = values.iter().flat_map(|v| [(*v).to_owned(), v.replace("$$", "$")]).collect();
    needles.retain(|needle| needle.chars().count() >= MIN_SECRET_CHARS);
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.dedup();
    needles.into_iter().fold(text.to_owned(), |text, needle| text.replace(&needle, "***"))
}

/// A line, and what it may give a name to: `name: value`, `"name": "value",`, `NAME=value`.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let value = line.split_once(['=', ':']).map(|(_, value)| value);
    let value = value.map(|value| value.trim_matches(|c: char| c.is_whitespace() || "\"',".contains(c)));
    [Some(line.trim()), value].into_iter().flatten()
}

/// One line of at most so many characters, without values that may be secret and without control characters.
pub fn shown(model: &Model, secrets: &SecretEnv, said: &str, most: usize) -> String {
    let said = without_values(model, secrets, said);
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(most).collect()
}

/// What a healthcheck said, as one line; `None` if it said nothing.
pub fn shown_check(model: &Model, secrets: &SecretEnv, said: &str) -> Option<String> {
    Some(shown(model, secrets, said, MAX_LINE)).filter(|line| !line.is_empty())
}

/// The lines of a log that have something in them.
pub fn shown_lines(model: &Model, secrets: &SecretEnv, log: &str) -> Vec<String> {
    let log = without_values(model, secrets, log);
    log.lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).take(MAX_LINE).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let text = r#"{"services":{"web":{"environment":{"PASS":"pa$$word$$1","SHORT":"abc"}}}}"#;
        Model::parse(text).unwrap()
    }

    fn secrets(value: &str) -> SecretEnv {
        SecretEnv([("FILE".to_owned(), value.to_owned())].into())
    }

    #[test]
    fn a_value_is_taken_out_as_the_model_writes_it_and_as_the_container_gets_it() {
        let said = without_values(&model(), &secrets(""), "abc pa$$word$$1 pa$word$1");
        assert_eq!(said, "abc *** ***");
    }

    #[test]
    fn a_value_within_a_secret_file_is_taken_out_alone() {
        let file =
            "[main]\nuser = administrator\n\"password\": \"hunter22hunter\",\nurl=https://a.example/x=1\npin: 1234\n";
        let said = "administrator hunter22hunter https://a.example/x=1 1234 main";
        assert_eq!(without_values(&model(), &secrets(file), said), "*** *** *** 1234 main");
    }

    #[test]
    fn what_is_cut_is_cut_after_the_values_are_taken_out() {
        let secret = "hunter22hunter";
        let log = format!("{}{secret} tail", "x".repeat(MAX_LINE - 4));
        let lines = shown_lines(&model(), &secrets(secret), &log);
        assert_eq!(lines, [format!("{}*** ", "x".repeat(MAX_LINE - 4))]);
        assert_eq!(shown(&model(), &secrets(secret), &format!("ab {secret}\n\tend"), 8), "ab *** e");
        assert_eq!(shown_check(&model(), &secrets(secret), " \n"), None);
    }
}
