//! Bills of materials: what a program is made of, in CycloneDX's form, from what cargo knows.

use crate::lab::process::run;
use crate::root;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The packages of the workspace and of its dependencies.
pub(super) struct Graph {
    /// By cargo's id.
    packages: BTreeMap<String, Package>,
}

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    repository: Option<String>,
    /// From the registry, not one of ours.
    foreign: bool,
    checksum: Option<String>,
    /// What ends up in a program: neither its tests' nor its build's.
    uses: Vec<String>,
}

impl Package {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

impl Graph {
    /// Asks cargo what is built for a target.
    pub(super) fn read(triple: &str) -> Result<Self> {
        let mut cargo = crate::cargo();
        cargo.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", triple]);
        let metadata = run(cargo.current_dir(root()))?;
        let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("read Cargo.lock")?;
        Self::from_text(&metadata, &lock)
    }

    fn from_text(metadata: &str, lock: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata).context("read cargo's metadata")?;
        let checksums = checksums(lock);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let in_program = |it: &&Value| list(&it["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let of_node = list(&node["deps"]);
            let ids = of_node.iter().filter(in_program).filter_map(|it| text(&it["pkg"])).collect();
            uses.insert(text(&node["id"]).unwrap_or_default(), ids);
        }
        let packages = list(&metadata["packages"]).into_iter().filter_map(|it| {
            let (id, name, version) = (text(&it["id"])?, text(&it["name"])?, text(&it["version"])?);
            let checksum = checksums.get(&(name.clone(), version.clone())).cloned();
            let uses = uses.remove(&id).unwrap_or_default();
            let (licence, repository) = (text(&it["license"]), text(&it["repository"]));
            let foreign = it["source"].is_string();
            Some((id, Package { name, version, licence, repository, foreign, checksum, uses }))
        });
        Ok(Self { packages: packages.collect() })
    }

    /// The bill of a program of ours.
    pub(super) fn bill(&self, program: &str) -> Result<String> {
        let is_it = |package: &Package| package.name == program && !package.foreign;
        let (start, top) = self
            .packages
            .iter()
            .find(|(_, package)| is_it(package))
            .with_context(|| format!("cargo knows no package {program}"))?;
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut todo = vec![start.as_str()];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.packages[id].uses.iter().map(String::as_str));
            }
        }
        let parts = || seen.iter().map(|id| &self.packages[*id]);
        let components: Vec<Value> =
            parts().filter(|it| !is_it(it)).map(|it| component(it, "library")).collect();
        let dependencies: Vec<Value> = parts()
            .map(|it| {
                let on: Vec<String> = it.uses.iter().map(|id| self.packages[id].reference()).collect();
                json!({ "ref": it.reference(), "dependsOn": on })
            })
            .collect();
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": component(top, "application") },
            "components": components,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_string_pretty(&bill)? + "\n")
    }
}

fn component(package: &Package, kind: &str) -> Value {
    let mut value = json!({
        "type": kind,
        "bom-ref": package.reference(),
        "name": package.name,
        "version": package.version,
        "purl": package.reference(),
    });
    if let Some(licence) = &package.licence {
        // Cargo still takes the old spelling.
        value["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = &package.checksum {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &package.repository {
        value["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    value
}

/// The checksums of a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for block in lock.split("[[package]]") {
        let value = |key: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            lines.next()?.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) = (value("name"), value("version"), value("checksum")) {
            found.insert((name, version), sum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "packages": [
            {"id": "ours", "name": "broker", "version": "0.1.0", "license": "MIT", "source": null},
            {"id": "lib", "name": "bytes", "version": "1.0.0", "license": "MIT/Apache-2.0", "source": "registry"},
            {"id": "test", "name": "tempfile", "version": "3.0.0", "license": "MIT", "source": "registry"},
            {"id": "deep", "name": "libc", "version": "0.2.0", "license": "MIT", "source": "registry"}
        ],
        "resolve": {"nodes": [
            {"id": "ours", "deps": [
                {"pkg": "lib", "dep_kinds": [{"kind": null}]},
                {"pkg": "test", "dep_kinds": [{"kind": "dev"}]}
            ]},
            {"id": "lib", "deps": [{"pkg": "deep", "dep_kinds": [{"kind": null}, {"kind": "build"}]}]},
            {"id": "test", "deps": []},
            {"id": "deep", "deps": []}
        ]}
    }"#;

    #[test]
    fn a_bill_has_what_is_in_the_program_and_not_what_tests_it() {
        let lock = "[[package]]\nname = \"bytes\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let graph = Graph::from_text(METADATA, lock).unwrap();
        let bill: Value = serde_json::from_str(&graph.bill("broker").unwrap()).unwrap();
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(names, ["libc", "bytes"]);
        let bytes = &bill["components"][1];
        assert_eq!(bytes["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bytes["hashes"][0]["content"], "abc");
        assert_eq!(bill["metadata"]["component"]["purl"], "pkg:cargo/broker@0.1.0");
        assert!(graph.bill("bytes").is_err(), "a library of others is no program of ours");
    }

    #[test]
    fn every_program_of_the_workspace_has_a_bill() {
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let graph = Graph::read(&triple).unwrap();
        for program in super::super::PROGRAMS {
            let bill = graph.bill(program.name).unwrap();
            assert!(bill.contains("pkg:cargo/tokio@") && !bill.contains("pkg:cargo/proptest@"), "{bill}");
        }
    }
}
