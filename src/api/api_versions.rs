//! ApiVersions (18), versions 0–4: what this broker can do.
//!
//! - Answered before anything else; needs no authorization. The answer's header is
//!   always version 0, so that old clients can read it.
//! - An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the range
//!   of this API alone (KIP-511); see [`unsupported`].
//! - v3: client software name and version, checked against Kafka's pattern
//!   (INVALID_REQUEST); supported and finalized features (KIP-584).
//! - v4: features whose minimum level is 0 are shown too (KAFKA-17492).
//! - Produce is shown from version 0 although 0–2 are refused: librdkafka switches
//!   codecs off otherwise (KAFKA-18659).

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::errors::Code;
use crate::metadata::controller::SUPPORTED_FEATURES;
use crate::shard::Core;
use crate::wire::versions::SERVED;
use crate::wire::{self, ApiKey};

pub async fn handle(core: &Rc<Core>, request: ApiVersionsRequest, context: &Context) -> ApiVersionsResponse {
    if context.version >= 3
        && !(is_software_text(&request.client_software_name) && is_software_text(&request.client_software_version))
    {
        return ApiVersionsResponse::default()
            .with_error_code(Code::InvalidRequest.code())
            .with_api_keys(served().collect());
    }
    let image = core.image();
    let supported = SUPPORTED_FEATURES
        .iter()
        // Old Java clients refuse a minimum of 0.
        .filter(|(_, min, _)| context.version >= 4 || *min > 0)
        .map(|(name, min, max)| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_static_str(name))
                .with_min_version(*min)
                .with_max_version(*max)
        })
        .collect();
    let finalized = image
        .features()
        // Others are finalized too in a directory that Kafka wrote; clients would use what there is not.
        .filter(|(name, level)| *level > 0 && SUPPORTED_FEATURES.iter().any(|(served, ..)| served == name))
        .map(|(name, level)| {
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_string(name.to_owned()))
                .with_min_version_level(level)
                .with_max_version_level(level)
        })
        .collect();
    ApiVersionsResponse::default()
        .with_api_keys(served().collect())
        .with_supported_features(supported)
        .with_finalized_features_epoch(image.end().0 - 1)
        .with_finalized_features(finalized)
}

/// The body of the answer to a version we do not know, in version 0.
pub fn unsupported() -> Bytes {
    let own = served().filter(|a| a.api_key == ApiKey::ApiVersions as i16).collect();
    let response = ApiVersionsResponse::default().with_error_code(Code::UnsupportedVersion.code()).with_api_keys(own);
    wire::encode::<ApiVersionsRequest>(&response, 0).expect("version 0 has both fields")
}

fn served() -> impl Iterator<Item = ApiVersion> {
    SERVED.iter().map(|api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.advertised_min())
            .with_max_version(api.max)
    })
}

/// Letters and digits, with dots and dashes between them (`ApiVersionsRequest.isValid`).
fn is_software_text(text: &str) -> bool {
    let inner = |c: &u8| c.is_ascii_alphanumeric() || *c == b'.' || *c == b'-';
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last))
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_text_is_kafkas_pattern() {
        for good in ["librdkafka", "apache-kafka-java", "4.3.1", "a", "v2-rc.1"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a/b", "ä", "."] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }
}
