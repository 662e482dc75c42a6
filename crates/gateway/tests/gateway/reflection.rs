//! The gateway's reflection: its own services and those of its backends.

use oxgrpc_schema::ReflectionClient;
use tonic::metadata::MetadataMap;

use crate::backend::{Builder, SHOP};
use crate::client::{channel, entry, gateway};

#[tokio::test]
async fn reflection_is_aggregated() {
    let shop = Builder::new(SHOP).unary("Get", |_, item| async { Ok(item) }).start().await;
    // Its file has the same name as the shop's.
    let other = Builder::new(
        "syntax = \"proto3\"; package other; service Other { rpc Do(Thing) returns (Thing); } \
         message Thing { int32 size = 1; }",
    )
    .start()
    .await;
    let gateway = gateway().await;
    gateway.registry().add(entry("shop", &[&shop]));
    gateway.registry().add(entry("other", &[&other]));

    let mut client =
        ReflectionClient::connect(channel(&gateway).await, &MetadataMap::new()).await.unwrap();
    for name in ["virtufin.Gateway", "virtufin.State", "shop.Shop", "other.Other"] {
        assert!(client.services().iter().any(|service| service == name), "{name}");
    }
    for (service, method) in [
        ("virtufin.Gateway", "virtufin.Gateway.InvokeJson"),
        ("shop.Shop", "shop.Shop.Watch"),
        ("other.Other", "other.Other.Do"),
    ] {
        let schema = client.schema_of(&[service.to_owned()]).await.unwrap();
        let method = schema.find_method(method).unwrap();
        schema.check(&method).unwrap();
        assert_eq!(schema.gaps(), []);
    }
    let schema = client.schema_of(&["nobody.Nothing".to_owned()]).await.unwrap();
    assert_eq!(schema.gaps()[0].file, "nobody.Nothing");
    gateway.stop().await;
}
