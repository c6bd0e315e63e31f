//! The JSON Schemas (draft 2020-12) of the repository's own files, for editors.

/// Schema of `evenkeel.yml`.
pub const EVENKEEL_YML: &str = include_str!("../schemas/evenkeel.schema.json");

/// Schema of the top-level `x-evenkeel` of a Compose file.
pub const X_EVENKEEL: &str = include_str!("../schemas/x-evenkeel.schema.json");

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::{config, extension, policy, reload};

    /// Each key that the code accepts is in the schema, and the other way round.
    #[test]
    fn the_schemas_and_the_code_accept_the_same_keys() {
        for (schema, pointer, known) in [
            (super::EVENKEEL_YML, "", config::KEYS),
            (super::EVENKEEL_YML, "/$defs/exception", policy::EXCEPTION_KEYS),
            (super::EVENKEEL_YML, "/$defs/policy", policy::KEYS),
            (super::EVENKEEL_YML, "/properties/defaults", extension::DEFAULT_KEYS),
            (super::EVENKEEL_YML, "/$defs/gate", extension::GATE_KEYS),
            (super::EVENKEEL_YML, "/$defs/server", config::SERVER_KEYS),
            (super::EVENKEEL_YML, "/$defs/stack", config::STACK_KEYS),
            (super::X_EVENKEEL, "", extension::KEYS),
            (super::X_EVENKEEL, "/$defs/gate", extension::GATE_KEYS),
            (super::X_EVENKEEL, "/$defs/hooks", extension::HOOK_KEYS),
            (super::X_EVENKEEL, "/$defs/service", extension::SERVICE_KEYS),
            (super::X_EVENKEEL, "/$defs/reload", extension::RELOAD_KEYS),
        ] {
            let schema: Value = serde_json::from_str(schema).expect("JSON");
            let object = schema.pointer(pointer).expect("the object's schema");
            let keys: Vec<&str> = object["properties"].as_object().expect("keys").keys().map(String::as_str).collect();
            assert_eq!(keys, known, "{pointer}");
            assert_eq!(object["additionalProperties"], Value::Bool(false), "{pointer}");
        }
    }

    #[test]
    fn a_server_says_all_of_it_but_the_policy() {
        let keys: Vec<&str> = config::KEYS.iter().copied().filter(|key| *key != "policy").collect();
        assert_eq!(config::KEYS_OF_AGENT, keys);
    }

    /// Each key has its row in its page for users.
    #[test]
    fn the_reference_speaks_of_every_key() {
        fn look(schema: &Value, value: &Value, prefix: &str, rows: &mut Vec<String>) {
            let value =
                value["$ref"].as_str().and_then(|at| schema.pointer(at.trim_start_matches('#'))).unwrap_or(value);
            let below = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
            let before = rows.len();
            for (key, value) in value["properties"].as_object().into_iter().flatten() {
                look(schema, value, &below(key), rows);
            }
            if value["additionalProperties"].is_object() && value["propertyNames"]["$ref"].is_string() {
                look(schema, &value["additionalProperties"], &below("NAME"), rows);
            }
            if value["items"].is_object() {
                look(schema, &value["items"], &format!("{prefix}[]"), rows);
            }
            if rows.len() == before {
                rows.push(prefix.trim_end_matches("[]").to_owned());
            }
        }
        let of_repository = include_str!("../../docs/reference/evenkeel.yml.md");
        let of_stack = include_str!("../../docs/reference/x-evenkeel.md");
        for (schema, page) in [(super::EVENKEEL_YML, of_repository), (super::X_EVENKEEL, of_stack)] {
            let schema: Value = serde_json::from_str(schema).expect("JSON");
            let mut rows = Vec::new();
            look(&schema, &schema, "", &mut rows);
            let is_said = |row: &&String| {
                let block = ["defaults.gate", "defaults.window"].iter().find(|block| row.starts_with(*block));
                page.contains(&format!("| `{}` |", block.map_or(row.as_str(), |block| block)))
            };
            let missing: Vec<&String> = rows.iter().filter(|row| !is_said(row)).collect();
            assert!(rows.len() > 3 && missing.is_empty(), "{missing:?} of {rows:?}");
        }
    }

    #[test]
    fn the_schema_and_the_code_know_the_same_words() {
        let schema: Value = serde_json::from_str(super::EVENKEEL_YML).expect("JSON");
        let names: Vec<&str> = config::LAYOUTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(schema["properties"]["layout"]["enum"], serde_json::json!(names));
        let words: Vec<&str> = config::PATHS.iter().map(|(name, _)| *name).collect();
        assert_eq!(schema["properties"]["paths"]["enum"], serde_json::json!(words));
        let words: Vec<&str> = config::PROJECTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(schema["properties"]["project"]["enum"], serde_json::json!(words));
    }

    #[test]
    fn the_schemas_and_the_code_know_the_same_ways_to_take_up_a_change() {
        let ways: Vec<&str> = reload::ON_CHANGE.iter().map(|(name, _)| *name).collect();
        let schema: Value = serde_json::from_str(super::X_EVENKEEL).expect("JSON");
        assert_eq!(schema["properties"]["on_change"]["enum"], serde_json::json!(ways));
        let signals = schema["$defs"]["reload"]["properties"]["signal"]["enum"].as_array().expect("words");
        let short = reload::SIGNALS.iter().filter_map(|signal| signal.strip_prefix("SIG"));
        let both: Vec<&str> = reload::SIGNALS.iter().copied().chain(short).collect();
        assert_eq!(signals.iter().filter_map(Value::as_str).collect::<Vec<_>>(), both);
        let schema: Value = serde_json::from_str(super::EVENKEEL_YML).expect("JSON");
        assert_eq!(schema["properties"]["defaults"]["properties"]["on_change"]["enum"], serde_json::json!(ways));
    }

    #[test]
    fn the_schema_and_the_code_know_the_same_severities() {
        let schema: Value = serde_json::from_str(super::EVENKEEL_YML).expect("JSON");
        let names: Vec<&str> = policy::LEVELS.iter().map(|(name, _)| *name).collect();
        assert_eq!(schema["$defs"]["level"]["enum"], serde_json::json!(names));
    }

    #[test]
    fn every_object_that_the_schemas_describe_is_closed() {
        fn look(value: &Value) {
            if let Value::Object(map) = value {
                assert!(
                    !map.contains_key("properties") || map.get("additionalProperties") == Some(&Value::Bool(false))
                );
                map.values().for_each(look);
            }
        }
        for schema in [super::EVENKEEL_YML, super::X_EVENKEEL] {
            look(&serde_json::from_str(schema).expect("JSON"));
        }
    }
}
