//! transparency-dev/merkle's vectors, all of them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ledger::Hash;
use ledger::verify;
use serde::Deserialize;

const INCLUSION: usize = 98;
const CONSISTENCY: usize = 43;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<String>>,
    want_err: bool,
}

/// What is no 32-byte hash never reaches a verifier: that is a refusal too.
fn hash(text: Option<&String>) -> Option<Hash> {
    text?.parse().ok()
}

fn proof(lines: Option<&Vec<String>>) -> Option<Vec<Hash>> {
    lines.into_iter().flatten().map(|line| line.parse().ok()).collect()
}

fn vectors(kind: &str) -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/merkle");
    below(&data.join(kind), &mut found);
    found.sort();
    found
}

#[test]
fn inclusion_proofs_are_judged_as_the_vectors_say() {
    let vectors = vectors("inclusion");
    assert_eq!(vectors.len(), INCLUSION);

    for (path, text) in vectors {
        let vector: Inclusion = serde_json::from_str(&text).unwrap();
        let holds = (|| {
            let (leaf, root) = (hash(vector.leaf_hash.as_ref())?, hash(vector.root.as_ref())?);
            let proof = proof(vector.proof.as_ref())?;
            Some(verify::inclusion(vector.leaf_idx, leaf, vector.tree_size, root, &proof))
        })();
        assert_eq!(holds == Some(true), !vector.want_err, "{}", path.display());
    }
}

#[test]
fn consistency_proofs_are_judged_as_the_vectors_say() {
    let vectors = vectors("consistency");
    assert_eq!(vectors.len(), CONSISTENCY);

    for (path, text) in vectors {
        let vector: Consistency = serde_json::from_str(&text).unwrap();
        let holds = (|| {
            let (old, new) = (hash(vector.root1.as_ref())?, hash(vector.root2.as_ref())?);
            let proof = proof(vector.proof.as_ref())?;
            Some(verify::consistency(vector.size1, old, vector.size2, new, &proof))
        })();
        assert_eq!(holds == Some(true), !vector.want_err, "{}", path.display());
    }
}
