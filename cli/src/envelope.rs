//! One message as one line of JSON, and back to the same bytes.
//!
//! `data` is a text where the message is UTF-8; the object itself, letter by letter, where it is a JSON object on one
//! line; else `{"base64": ...}`. A message that is itself an object with the only key `base64` is written as a text.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const BASE64: &str = "base64";

/// What `recv --json` prints and `send --json` takes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<D> {
    data: D,
    /// Delivered before, to a receiver that died before it acknowledged it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    redelivered: bool,
}

/// The envelope of a message, without a newline.
pub(crate) fn seal(message: &[u8], redelivered: bool) -> anyhow::Result<String> {
    let text = std::str::from_utf8(message).ok();
    let sealed = if let Some(object) = text.and_then(as_object) {
        serde_json::to_string(&Envelope { data: object, redelivered })
    } else if let Some(text) = text {
        serde_json::to_string(&Envelope { data: text, redelivered })
    } else {
        let data = BTreeMap::from([(BASE64, STANDARD.encode(message))]);
        serde_json::to_string(&Envelope { data, redelivered })
    };
    sealed.context("cannot write JSON")
}

/// The message in an envelope.
pub(crate) fn open(envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
    const EXPECTED: &str =
        r#"write {"data": TEXT or OBJECT or {"base64": TEXT}}, as `recv --json` prints it"#;
    let Envelope { data, .. } = serde_json::from_slice::<Envelope<&RawValue>>(envelope).context(EXPECTED)?;
    match data.get().as_bytes()[0] {
        b'"' => Ok(serde_json::from_str::<String>(data.get()).context(EXPECTED)?.into_bytes()),
        b'{' => match only_base64(data.get()) {
            Some(value) => {
                let digits: String = serde_json::from_str(value.get()).context("base64 is a text")?;
                STANDARD.decode(digits).context("bad base64")
            }
            None => Ok(data.get().as_bytes().to_vec()),
        },
        _ => bail!("data is neither a text nor an object: {EXPECTED}"),
    }
}

/// The text as a JSON object, where it is one on one line and cannot be taken for encoded bytes.
fn as_object(text: &str) -> Option<&RawValue> {
    // Raw JSON loses the space around it, and a line break would end the envelope.
    if !text.starts_with('{') || !text.ends_with('}') || text.contains(['\n', '\r']) {
        return None;
    }
    serde_json::from_str(text).ok().filter(|_| only_base64(text).is_none())
}

/// The value of the only key of an object, where that is `base64`.
fn only_base64(object: &str) -> Option<&RawValue> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object).ok()?;
    fields.get(BASE64).copied().filter(|_| fields.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(message: &[u8]) -> String {
        let sealed = seal(message, false).unwrap();
        assert_eq!(open(sealed.as_bytes()).unwrap(), message, "{sealed}");
        assert!(!sealed.contains('\n'), "{sealed}");
        sealed
    }

    #[test]
    fn texts_objects_and_bytes_have_their_forms() {
        assert_eq!(sealed(b"hello"), r#"{"data":"hello"}"#);
        assert_eq!(sealed(b""), r#"{"data":""}"#);
        assert_eq!(sealed(b"\xFF\0"), r#"{"data":{"base64":"/wA="}}"#);
        assert_eq!(sealed(br#"{"b": 1.50, "a":[]}"#), r#"{"data":{"b": 1.50, "a":[]}}"#);
        assert_eq!(sealed(b"[1]"), r#"{"data":"[1]"}"#);
        assert_eq!(seal(b"x", true).unwrap(), r#"{"data":"x","redelivered":true}"#);
    }

    #[test]
    fn what_looks_like_an_envelope_inside_stays_what_it_is() {
        for message in [
            r#"{"base64":"/wA="}"#,
            r#"{"base64":5}"#,
            r#"{"base64":"a","base64":"b"}"#,
            r#"{"base64":"/wA=","x":1}"#,
            r#"{"data":"x"}"#,
            r#"{"$serde_json::private::RawValue":"1"}"#,
            " {} ",
            "{\n}",
            "{\r}",
            "{}}",
            "{",
        ] {
            sealed(message.as_bytes());
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        sealed(deep.as_bytes());
    }

    #[test]
    fn what_is_no_envelope_is_refused_with_the_remedy() {
        for text in [
            "hello",
            "{}",
            r#"{"dat":"x"}"#,
            r#"{"data":5}"#,
            r#"{"data":null}"#,
            r#"{"data":"x","to":"y"}"#,
            r#"{"data":"x"} {"data":"y"}"#,
        ] {
            let error = open(text.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains("recv --json"), "{text}: {error:#}");
        }
        assert!(open(br#"{"data":{"base64":"?"}}"#).unwrap_err().to_string().contains("base64"));
        assert_eq!(open(b" {\"data\" : \"x\", \"redelivered\": true} ").unwrap(), b"x");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(message in proptest::collection::vec(0u8.., 0..200)) {
            sealed(&message);
        }

        #[test]
        fn any_text_comes_back(message in r#"[{]?[\PC\s"{}:,a-b0-9\\]{0,40}[}]?"#) {
            sealed(message.as_bytes());
        }

        #[test]
        fn any_object_comes_back(key in ".{0,9}", value in ".{0,9}", number in proptest::num::f64::ANY) {
            let object = serde_json::json!({ key: value, "n": number });
            sealed(object.to_string().as_bytes());
            sealed(serde_json::to_string_pretty(&object).unwrap().as_bytes());
        }
    }
}
