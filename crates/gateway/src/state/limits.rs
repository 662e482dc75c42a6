//! What every store refuses, with the same words: names, keys and values out of bounds.

use super::{
    Error, MAX_KEY_BYTES, MAX_SERVICE_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Write,
};

pub(super) fn check_service(service: &str) -> Result<(), Error> {
    if service.is_empty() {
        return Err(Error::Invalid("the service is empty: name one".into()));
    }
    if service.len() > MAX_SERVICE_BYTES {
        return Err(Error::Invalid(format!(
            "the service's name has {} octets, more than {MAX_SERVICE_BYTES}",
            service.len()
        )));
    }
    // NUL ends the service in the stores' keys.
    if service.contains('\0') {
        return Err(Error::Invalid(format!("the service {service:?} contains NUL")));
    }
    Ok(())
}

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::Invalid("the key is empty: it needs at least one octet".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        let start: String = key.chars().take(32).collect();
        return Err(Error::Invalid(format!(
            "the key {start:?}... has {} octets, more than {MAX_KEY_BYTES}",
            key.len()
        )));
    }
    Ok(())
}

pub(super) fn check_keys(service: &str, keys: &[String]) -> Result<(), Error> {
    check_service(service)?;
    keys.iter().try_for_each(|key| check_key(key))
}

pub(super) fn check_writes(service: &str, writes: &[Write]) -> Result<(), Error> {
    check_service(service)?;
    let mut total = 0;
    for write in writes {
        check_key(&write.key)?;
        let size = write.value.as_ref().map_or(0, |value| value.len());
        if size > MAX_VALUE_BYTES {
            return Err(Error::Exhausted(format!(
                "the value of key {:?} has {size} octets, more than {MAX_VALUE_BYTES}",
                write.key
            )));
        }
        total += write.key.len() + size;
    }
    if total > MAX_TRANSACTION_BYTES {
        return Err(Error::Exhausted(format!(
            "the transaction has {total} octets of keys and values, more than {MAX_TRANSACTION_BYTES}"
        )));
    }
    Ok(())
}

pub(super) fn too_many_entries(service: &str, max_bytes: usize) -> Error {
    Error::Exhausted(format!(
        "the state of service {service:?} exceeds {max_bytes} octets: list its keys in pages and get them one by one"
    ))
}
