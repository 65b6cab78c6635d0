//! The wasm OCI artifact layout of the CNCF's TAG Runtime: what is stored in a registry for a component.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::reference::is_digest;
use crate::signature::Signature;

/// Media types.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(super) const MODULE: &str = "application/wasm";
/// What toolchains before the layout called a module's layer.
const MODULE_ONCE: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// The annotation of a manifest that has the module's signature, as minisign writes it. It is in the manifest and not an
/// artifact of its own that refers to it: every registry keeps a manifest whole, many have no list of what refers to one, and
/// one request then brings what names the module and what says who made it.
pub(super) const SIGNATURE: &str = "dev.tidegate.module.minisig";

/// A blob, by what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// The manifest of one module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// What a manifest says of a module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its layer.
    pub(super) module: Descriptor,
    /// Its signature. Whether it is one of these very bytes, and by whom, is for the host to say that runs them.
    pub(super) signature: Option<Signature>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a str; 1],
    component: Component<'a>,
}

#[derive(Debug, Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

impl Descriptor {
    pub(super) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: digest(bytes), size: bytes.len() as u64 }
    }
}

impl Manifest {
    pub(super) fn of(config: Descriptor, layer: Descriptor, signature: Option<&Signature>) -> Self {
        let annotation = |signature: &Signature| (SIGNATURE.to_owned(), signature.as_str().to_owned());
        let annotations = signature.map(annotation).into_iter().collect();
        Self { schema_version: 2, media_type: MANIFEST.to_owned(), config, layers: vec![layer], annotations }
    }

    pub(super) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec(self).context("writing the manifest")
    }
}

/// The config of a component.
pub(super) fn config(
    layer: &str,
    imports: &[String],
    exports: &[String],
    created: SystemTime,
) -> anyhow::Result<Vec<u8>> {
    let config = Config {
        created: humantime::format_rfc3339_seconds(created).to_string(),
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [layer],
        component: Component { exports, imports },
    };
    serde_json::to_vec(&config).context("writing the module's config")
}

/// The digest of some bytes, as registries write it.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The layer with the module and its signature, of a manifest that a registry gave with this media type.
pub(super) fn module_of(manifest: &[u8], kind: Option<&str>) -> anyhow::Result<Listed> {
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    if let Some(kind) = kind.filter(|kind| *kind != MANIFEST && *kind != "application/json") {
        bail!("its manifest is of the media type `{kind}`, and a module's is `{MANIFEST}`");
    }
    let manifest: Manifest = serde_json::from_slice(manifest).context("its manifest is not one of an image")?;
    ensure!(
        manifest.media_type.is_empty() || manifest.media_type == MANIFEST,
        "its manifest says that it is `{}`, and a module's is `{MANIFEST}`",
        manifest.media_type
    );
    let is_module = |layer: &&Descriptor| layer.media_type == MODULE || layer.media_type == MODULE_ONCE;
    let modules: Vec<&Descriptor> = manifest.layers.iter().filter(is_module).collect();
    match modules.as_slice() {
        [layer] => {
            ensure!(is_digest(&layer.digest), "the layer's digest `{}` is none of sha256", layer.digest);
            let signature = manifest.annotations.get(SIGNATURE);
            let read = |text: &String| Signature::read(text.as_bytes(), &format!("its annotation `{SIGNATURE}`"));
            Ok(Listed { module: (*layer).clone(), signature: signature.map(read).transpose()? })
        }
        [] => {
            let kinds = manifest.layers.iter().map(|layer| layer.media_type.as_str());
            let kinds = kinds.collect::<Vec<_>>().join(", ");
            bail!("it has no layer of the media type `{MODULE}`; it has: {kinds}")
        }
        several => bail!("it has {} modules, and a handler is one", several.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_pushed_is_the_layout_of_the_ecosystem() {
        let layer = Descriptor::of(MODULE, b"module");
        let imports = ["a:b/c@0.1.0".to_owned()];
        let config = config(&layer.digest, &imports, &[], SystemTime::UNIX_EPOCH).unwrap();
        let expected = serde_json::json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
            "layerDigests": [layer.digest], "component": {"exports": [], "imports": ["a:b/c@0.1.0"]},
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&config).unwrap(), expected);
        let manifest = Manifest::of(Descriptor::of(CONFIG, &config), layer.clone(), None).bytes().unwrap();
        let expected = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(&config), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/wasm", "size": 6,
                "digest": "sha256:120970c1fa5b78e87c7a4e3a0f7bbbe8bd26de9bbc8eaa6da93a5e1f4bd6c8b6",
            }],
        });
        let mut found = serde_json::from_slice::<serde_json::Value>(&manifest).unwrap();
        let mut expected = expected;
        // The digest of the layer is checked by itself.
        assert_eq!(found["layers"][0]["digest"].take(), serde_json::json!(layer.digest));
        expected["layers"][0]["digest"].take();
        assert_eq!(found, expected);
        assert_eq!(module_of(&manifest, Some(MANIFEST)).unwrap(), Listed { module: layer, signature: None });
    }

    #[test]
    fn what_is_no_module_says_what_it_is() {
        let with = |layers: &str| {
            let digest = digest(b"");
            let config = format!(r#"{{"mediaType":"{CONFIG}","digest":"{digest}","size":2}}"#);
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
        };
        let layer = |kind: &str, digest: &str| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1}}"#);
        let (tar, good) = (layer("application/x-tar", "sha256:0"), layer(MODULE, &digest(b"x")));
        let refused = |text: String, kind| format!("{:#}", module_of(text.as_bytes(), kind).unwrap_err());
        assert!(module_of(with(&format!("{tar},{good}")).as_bytes(), None).is_ok());
        assert!(refused(with(&tar), None).contains("it has: application/x-tar"));
        assert!(refused(with(&format!("{good},{good}")), None).contains("it has 2 modules"));
        assert!(refused(with(&layer(MODULE, "md5:0")), None).contains("none of sha256"));
        let index = "application/vnd.oci.image.index.v1+json";
        assert!(refused(with(&good), Some(index)).contains(index));
        assert!(refused("{}".to_owned(), Some(MANIFEST)).contains("not one of an image"));
    }

    #[test]
    fn a_signature_comes_back_as_it_went() {
        let text = include_str!("../../../tests/fixtures/signed/module.wasm.minisig");
        let signature = Signature::read(text.as_bytes(), "it").unwrap();
        let layer = Descriptor::of(MODULE, b"module");
        let manifest = Manifest::of(Descriptor::of(CONFIG, b"{}"), layer, Some(&signature)).bytes().unwrap();
        assert_eq!(module_of(&manifest, Some(MANIFEST)).unwrap().signature.unwrap().as_str(), text);
        // One that somebody else put there and that is none refuses the module, as a wrong one does everywhere.
        let mut broken: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        broken["annotations"][SIGNATURE] = "trust me".into();
        let refused = module_of(broken.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(refused.starts_with("its annotation `dev.tidegate.module.minisig` is no signature"), "{refused}");
    }
}
