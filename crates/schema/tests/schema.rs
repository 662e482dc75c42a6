//! Schemas with and without gaps, and messages as JSON.

#![allow(clippy::unwrap_used)] // What surrounds the tests is test code too.

use oxgrpc_schema::prost_reflect::prost::Message as _;
use oxgrpc_schema::prost_reflect::{DynamicMessage, MessageDescriptor};
use oxgrpc_schema::{LoadError, MethodNotFound, Schema, details, json};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use serde_json::{Value, json};

const COMMON: &str = "syntax = \"proto3\"; package common; \
    message Money { string currency = 1; int64 units = 2; } enum Size { SMALL = 0; LARGE = 1; }";

const SHOP: &str = r#"
    syntax = "proto3";
    package shop;
    import "common/common.proto";
    import "google/protobuf/any.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/wrappers.proto";
    service Shop {
        rpc Get(Plain) returns (Plain);
        rpc Pay(Plain) returns (Payment);
        rpc Ship(Parcel) returns (Plain);
    }
    service Stock { rpc Get(Plain) returns (Plain); rpc Count(Plain) returns (Plain); }
    message Plain {
        string first_name = 1;
        int64 big = 2;
        repeated Plain children = 3;
        map<string, Plain> named = 4;
        google.protobuf.Any extra = 5;
        google.protobuf.Duration wait = 6;
        google.protobuf.StringValue maybe = 7;
        bytes data = 8;
        double ratio = 9;
        oneof choice { string text = 10; bool flag = 11; }
    }
    message Payment { Outer outer = 1; message Outer { repeated common.Money amounts = 1; } }
    message Parcel { common.Size size = 1; }
"#;

/// Compiles the two files and returns their descriptors, imports included.
fn files() -> Vec<FileDescriptorProto> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("common")).unwrap();
    std::fs::write(directory.path().join("common/common.proto"), COMMON).unwrap();
    std::fs::write(directory.path().join("shop.proto"), SHOP).unwrap();
    let schema = Schema::from_proto_files(&["shop.proto"], &[directory.path()]).unwrap();
    FileDescriptorSet::decode(schema.to_descriptor_set().as_slice()).unwrap().file
}

fn plain() -> MessageDescriptor {
    Schema::from_files(files()).pool().get_message_by_name("shop.Plain").unwrap()
}

#[test]
fn files_come_in_any_order_and_go_through_a_set() {
    let mut files = files();
    files.reverse();
    let schema = Schema::from_files(files);
    assert_eq!(schema.gaps(), []);
    for name in ["shop.Shop.Get", "shop.Shop.Pay", "shop.Shop.Ship"] {
        schema.check(&schema.find_method(name).unwrap()).unwrap();
    }
    let again = Schema::from_descriptor_set(&schema.to_descriptor_set()).unwrap();
    assert!(again.find_method("shop.Shop.Pay").is_ok());
    assert!(matches!(Schema::from_descriptor_set(b"\xff"), Err(LoadError::NotADescriptorSet(_))));
}

#[test]
fn a_missing_import_costs_only_the_methods_that_need_it() {
    let all = files();
    let some: Vec<_> =
        all.iter().filter(|file| !file.name().starts_with("common/")).cloned().collect();
    let mut schema = Schema::from_files(some);
    assert_eq!(schema.gaps()[0].file, "common/common.proto");
    schema.check(&schema.find_method("shop.Shop.Get").unwrap()).unwrap();
    for (method, type_name) in
        [("shop.Shop.Pay", "common.Money"), ("shop.Shop.Ship", "common.Size")]
    {
        let incomplete = schema.check(&schema.find_method(method).unwrap()).unwrap_err();
        assert_eq!(
            (incomplete.type_name.as_str(), incomplete.gap.file.as_str()),
            (type_name, "common/common.proto")
        );
    }
    // The set that is written has no placeholder in it.
    let set = FileDescriptorSet::decode(schema.to_descriptor_set().as_slice()).unwrap();
    assert!(set.file.iter().all(|file| !file.name().starts_with("placeholder")));
    assert!(schema.file("placeholder:common.Money").is_none());
    assert_eq!(schema.file_of_symbol("common.Money"), None);
    assert_eq!(schema.file_of_symbol("shop.Shop.Get").as_deref(), Some("shop.proto"));

    // Another source fills the gap.
    schema.merge(&Schema::from_files(all));
    assert_eq!(schema.gaps(), []);
    schema.check(&schema.find_method("shop.Shop.Pay").unwrap()).unwrap();
}

#[test]
fn a_broken_import_is_a_gap_with_its_reason() {
    let mut all = files();
    let common = all.iter_mut().find(|file| file.name().starts_with("common/")).unwrap();
    // A field of a type that there is not.
    common.message_type[0].field[1].type_name = Some(".common.Nowhere".to_owned());
    common.message_type[0].field[1].r#type = Some(11);
    let schema = Schema::from_files(all);
    assert_eq!(schema.gaps().len(), 1);
    assert!(schema.gaps()[0].reason.contains("common.Nowhere"), "{}", schema.gaps()[0]);
    schema.check(&schema.find_method("shop.Shop.Get").unwrap()).unwrap();
    schema.check(&schema.find_method("shop.Shop.Pay").unwrap()).unwrap_err();
}

#[test]
fn methods_are_found_by_each_spelling() {
    let schema = Schema::from_files(files());
    for name in ["Pay", "Shop.Pay", "Shop/Pay", "shop.Shop.Pay", "shop.Shop/Pay", "/shop.Shop/Pay"]
    {
        let method = schema.find_method(name).unwrap();
        assert_eq!(oxgrpc_schema::path(&method), "/shop.Shop/Pay", "{name}");
    }
    let Err(MethodNotFound::Ambiguous { candidates, .. }) = schema.find_method("Get") else {
        panic!()
    };
    assert_eq!(candidates, ["shop.Shop.Get", "shop.Stock.Get"]);
    let error = schema.find_method("shop.Shop.Pya").unwrap_err();
    assert!(error.to_string().contains("shop.Shop.Pay"), "{error}");
    assert!(schema.find_method("hop.Pay").is_err());
}

#[test]
fn json_mistakes_are_told_with_their_paths() {
    let cases = [
        (r#"{"nme": 1}"#, "nme", "no such field"),
        (
            r#"{"children": [{}, {"named": {"a": {"nme": 1}}}]}"#,
            "children[1].named.a.nme",
            "no such field",
        ),
        (r#"{"big": "many"}"#, "big", "invalid digit"),
        (r#"{"children": [{"ratio": true}]}"#, "children[0].ratio", ""),
        (r#"{"text": "a", "flag": true}"#, "", "oneof"),
        (r#"{"wait": "soon"}"#, "wait", ""),
        ("[]", "", ""),
        ("{", "", "not valid JSON"),
        ("{} {}", "", "not valid JSON"),
    ];
    for (text, path, reason) in cases {
        let error = json::parse(plain(), text).unwrap_err();
        assert_eq!(error.path, path, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
        assert!(error.to_string().starts_with("shop.Plain"), "{error}");
    }
    let deep = format!("{}{}", r#"{"children":["#.repeat(100_000), "]}".repeat(100_000));
    json::parse(plain(), &deep).unwrap_err();
}

#[test]
fn json_goes_both_ways() {
    let text = r#"{"firstName":"Ö","big":"-9223372036854775808","children":[{"first_name":"c"}],
        "named":{"k":{"flag":false}},"wait":"1.500s","maybe":"","data":"AP8=","ratio":"NaN",
        "extra":{"@type":"type.googleapis.com/shop.Parcel","size":"LARGE"}}"#;
    let message = json::parse(plain(), text).unwrap();
    let value = json::to_value(&message, &json::PrintOptions::default()).unwrap();
    assert_eq!(value["big"], "-9223372036854775808");
    assert_eq!(value["children"][0]["firstName"], "c");
    assert_eq!(value["children"][0]["big"], "0");
    assert_eq!(value["named"]["k"]["flag"], false);
    assert_eq!(
        (&value["wait"], &value["maybe"], &value["ratio"]),
        (&json!("1.500s"), &json!(""), &json!("NaN"))
    );
    assert_eq!(value["extra"]["size"], "LARGE");
    let printed = json::print(&message, &json::PrintOptions::default()).unwrap();
    assert_eq!(json::parse(plain(), &printed).unwrap().encode_to_vec(), message.encode_to_vec());

    let sparse = json::PrintOptions { defaults: false, proto_names: true, ..Default::default() };
    let empty = json::parse(plain(), " \n").unwrap();
    assert_eq!(json::print(&empty, &sparse).unwrap(), "{}");
    assert!(json::print(&message, &sparse).unwrap().contains(r#""first_name":"Ö""#));
}

#[test]
fn an_any_of_an_unknown_type_keeps_its_octets() {
    // Plain { first_name: "a", children: [Plain { extra: Any { type_url: "x/no.Type", value: 0x08 0x01 } }] }
    let any = b"\x0a\x09x/no.Type\x12\x02\x08\x01";
    let child = [b"\x2a\x0f", &any[..]].concat();
    let octets = [b"\x0a\x01a\x1a\x11", &child[..]].concat();
    let message = DynamicMessage::decode(plain(), octets.as_slice()).unwrap();
    let text = json::print(&message, &json::PrintOptions::default()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["firstName"], "a");
    assert_eq!(value["children"][0]["extra"], json!({"@type": "x/no.Type", "value": "CAE="}));
    assert_eq!(value["children"][0]["big"], "0");
}

#[test]
fn details_of_google_rpc_are_known_and_others_keep_their_octets() {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let details = ErrorDetails::with_bad_request_violation("name", "is empty");
    let status = tonic::Status::with_error_details(tonic::Code::InvalidArgument, "bad", details);
    let decoded = details::decode(status.details(), None);
    assert_eq!(
        decoded,
        [json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "name", "description": "is empty"}],
        })]
    );
    // google.rpc.Status { code: 3, details: [Any { type_url: "x/no.Type", value: 0x08 0x01 }] }
    let unknown = b"\x08\x03\x1a\x0f\x0a\x09x/no.Type\x12\x02\x08\x01";
    assert_eq!(details::decode(unknown, None), [json!({"@type": "x/no.Type", "value": "CAE="})]);
    assert_eq!(details::decode(b"\xff", None), Vec::<Value>::new());
}
