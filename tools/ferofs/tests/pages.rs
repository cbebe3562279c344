// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Manual pages and completions: there is one for everything, and the programs that read them take
//! them, where they are installed.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

fn ferofs(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ferofs"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `ferofs --help` lists.
fn commands() -> Vec<String> {
    let help = ferofs(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_string)
        .collect()
}

/// Runs a program on a file; `None` if it is not installed.
fn complaints(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .ok()?;
    let said = [output.stderr, output.stdout].concat();
    Some(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_command_has_a_page_with_its_options() {
    let scratch = Scratch::new();
    ferofs(&["man", scratch.0.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 8, "{commands:?}");
    for command in &commands {
        let page = scratch.join(&format!("man1/ferofs-{command}.1"));
        let page = fs::read_to_string(page).unwrap();
        let help = ferofs(&[command, "--help"]);
        for word in help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            let end = word.find(|c: char| c != '-' && !c.is_ascii_alphanumeric());
            let option = word[..end.unwrap_or(word.len())].replace('-', "\\-");
            assert!(page.contains(&option), "{command}: {option}");
        }
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"] {
            assert!(page.contains(section), "{command}: {section}");
        }
        assert!(page.contains("EXAMPLES"), "{command} has no example");
        assert!(help.contains("Examples:"), "{command} has no example");
    }
    let build = fs::read_to_string(scratch.join("man1/ferofs-build.1")).unwrap();
    for expected in [
        // What has to be given is in the synopsis, and a command in an example stays one line.
        "[OPTION]... \\fB\\-o\\fR \\fIIMAGE\\fR \\fIINPUT\\fR\n",
        "ferofs build \\-o \\\nlayer.erofs \\-\\fR\n.fi\n",
        "path: That of the directories",
    ] {
        assert!(build.contains(expected), "{expected}");
    }
    for name in ["mkfs", "fsck", "mount", "umount"] {
        assert!(scratch.join(&format!("man8/{name}.ferofs.8")).exists());
    }
}

#[test]
fn pages_are_well_formed() {
    let scratch = Scratch::new();
    ferofs(&["man", scratch.0.to_str().unwrap()]);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Documentation/man/ferofs.5");
    let mut pages: Vec<PathBuf> = vec![own];
    for section in ["man1", "man8"] {
        let entries = fs::read_dir(scratch.join(section)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    assert!(pages.len() > 14);
    for page in pages {
        let groff = ["-man", "-ww", "-z", "-Tutf8"];
        match complaints("groff", &groff, &page) {
            Some(said) => assert_eq!(said, "", "{}", page.display()),
            None => eprintln!("skipped: groff is not installed"),
        }
        match complaints("mandoc", &["-Tlint", "-Wstyle"], &page) {
            Some(said) => assert_eq!(said, "", "{}", page.display()),
            None => eprintln!("skipped: mandoc is not installed"),
        }
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let scratch = Scratch::new();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        for name in ["ferofs", "mkfs.ferofs", "fsck.ferofs"] {
            let script = ferofs(&["completions", shell, "--name", name]);
            assert!(script.contains(name), "{shell}");
            let path = scratch.join(name);
            fs::write(&path, script).unwrap();
            match complaints(shell, &[check], &path) {
                Some(said) => assert_eq!(said, "", "{shell} {name}"),
                None => eprintln!("skipped: {shell} is not installed"),
            }
        }
    }
    // What zsh completes a value with stands behind the value's name, and is a function of zsh or a list.
    for name in ["ferofs", "mkfs.ferofs", "fsck.ferofs", "mount.ferofs"] {
        let script = ferofs(&["completions", "zsh", "--name", name]).replace("\\:", "");
        let options = script.lines().filter(|line| line.starts_with('\''));
        let values = options.filter_map(|line| line.split_once("]:"));
        let mut count = 0;
        for (option, value) in values {
            let value = value.trim_start_matches(':').split_once(':');
            let value = value.map(|(_, with)| with).unwrap_or_default();
            assert!(value.starts_with(['_', '(']), "{option}: {value}");
            count += 1;
        }
        assert!(count > 3, "{name}");
    }
    // What is completed: all commands.
    let script = ferofs(&["completions", "bash"]);
    for command in commands() {
        // Names of functions have no hyphens.
        let found = ["__subcmd__", "__"].iter().any(|between| {
            let name = command.replace('-', between);
            script.contains(&format!("ferofs{between}{name}"))
        });
        assert!(found, "{command}");
    }
}
