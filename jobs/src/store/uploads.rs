//! Uploads that were begun in a bucket of S3, or of what speaks like it: `object_store` lists none, but signs the request
//! that does.

use object_store::path::Path as Key;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use serde::Deserialize;
use std::error::Error;
use std::time::Duration;

/// The time that a request may take, and that its signature holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The answer to ListMultipartUploads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    upload: Vec<Upload>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

/// Key and id of each upload to keys with a prefix.
///
/// # Errors
/// Why the store does not tell.
pub(super) async fn begun(
    signer: &dyn Signer,
    prefix: &str,
) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let (mut found, mut markers) = (Vec::new(), None);
    loop {
        let mut query = vec![("uploads", String::new()), ("prefix", prefix.to_string())];
        if let Some((key, upload)) = markers {
            query.extend([("key-marker", key), ("upload-id-marker", upload)]);
        }
        let options = SignedUrlOptions::new().with_query(query);
        let url = signer.signed_url_opts(Method::GET, &Key::default(), PATIENCE, &options).await?;
        let answer = client.get(url).send().await?.error_for_status().map_err(reqwest::Error::without_url)?;
        let listed: Listed = quick_xml::de::from_str(&answer.text().await?)?;
        let more = listed.is_truncated && !listed.upload.is_empty();
        found.extend(listed.upload.into_iter().map(|upload| (upload.key, upload.upload_id)));
        if !more {
            return Ok(found);
        }
        markers = Some((listed.next_key_marker, listed.next_upload_id_marker));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_understood() {
        let text = "<?xml version='1.0'?><ListMultipartUploadsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
                    <Bucket>mill</Bucket><KeyMarker></KeyMarker><NextKeyMarker>b</NextKeyMarker>\
                    <NextUploadIdMarker>2</NextUploadIdMarker><IsTruncated>true</IsTruncated>\
                    <Upload><Key>a&amp;b</Key><UploadId>1</UploadId><Owner><ID>x</ID></Owner></Upload>\
                    <Upload><Key>b</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>";
        let listed: Listed = quick_xml::de::from_str(text).unwrap();
        let found: Vec<_> = listed.upload.iter().map(|upload| (&*upload.key, &*upload.upload_id)).collect();
        assert_eq!(found, [("a&b", "1"), ("b", "2")]);
        assert_eq!(
            (listed.is_truncated, &*listed.next_key_marker, &*listed.next_upload_id_marker),
            (true, "b", "2")
        );
        let none: Listed = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(none.upload.is_empty() && !none.is_truncated);
    }
}
