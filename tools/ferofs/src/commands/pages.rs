// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs man` and `ferofs completions`: manual pages and completions for shells, made of the same
//! descriptions that `--help` shows. `make install` calls them.

use super::to_stdout;
use clap::Arg;
use clap::Command;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use ferofs::error::Error;
use ferofs::error::Result;
use roff::Roff;
use roff::bold;
use roff::italic;
use roff::roman;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Write the manual pages
///
/// One for each command, and one for each name that the program goes by, as man1/*.1 and man8/*.8 below
/// a directory.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs man /usr/local/share/man
      Write the pages to where man(1) finds them.")]
pub struct ManArguments {
    /// Where to write them
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Write completions for a shell to standard output
#[derive(clap::Args)]
#[command(after_help = "Examples:
  . <(ferofs completions bash)
      Complete the arguments of ferofs in this shell.
  ferofs completions fish --name fsck.ferofs
      The same for another name of the program.")]
pub struct CompletionArguments {
    /// The name of the program
    #[arg(long, value_name = "NAME", default_value = "ferofs", value_parser = names())]
    name: String,
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// A name that the program goes by.
struct Program {
    name: &'static str,
    /// Of the manual.
    section: &'static str,
    command: fn() -> Command,
    exit: &'static str,
}

/// When the pages of this version were last changed.
const DATE: &str = "2026-11-29";
/// Longest line in a page's source.
const WIDTH: usize = 80;

const OF_MOST: &str = "0 on success, 1 on failure, 2 for wrong arguments.";
const OF_FSCK: &str = "As fsck(8) has them: 0 if nothing is wrong, 4 if something is, 8 if the check \
    failed, 12 for both, 16 for wrong arguments.";
const OF_MOUNT: &str = "As mount(8) has them: 0 on success, 1 for wrong arguments, 32 on failure.";
const OF_DIFF: &str =
    "0 if nothing is different, 1 if something is, 2 if that could not be found out.";

const PROGRAMS: [Program; 6] = [
    Program {
        name: "ferofs",
        section: "1",
        command: crate::Arguments::command,
        exit: "",
    },
    Program {
        name: "dump.ferofs",
        section: "1",
        command: super::dump::Dump::command,
        exit: OF_MOST,
    },
    Program {
        name: "mkfs.ferofs",
        section: "8",
        command: super::mkfs::Arguments::command,
        exit: OF_MOST,
    },
    Program {
        name: "fsck.ferofs",
        section: "8",
        command: super::check::Fsck::command,
        exit: OF_FSCK,
    },
    Program {
        name: "mount.ferofs",
        section: "8",
        command: super::mount::Helper::command,
        exit: OF_MOUNT,
    },
    Program {
        name: "umount.ferofs",
        section: "8",
        command: super::umount::Helper::command,
        exit: OF_MOUNT,
    },
];

fn names() -> Vec<&'static str> {
    PROGRAMS.iter().map(|program| program.name).collect()
}

/// Writes the completions.
pub fn completions(arguments: &CompletionArguments) -> Result<()> {
    let program = PROGRAMS
        .iter()
        .find(|program| program.name == arguments.name);
    let Some(program) = program else {
        return Ok(());
    };
    let mut command = (program.command)();
    if arguments.shell == Shell::Zsh {
        command = without_colons(command);
    }
    let mut made = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, program.name, &mut made);
    to_stdout(|out| out.write_all(&made))
}

/// A command whose values have names without colons. For zsh what follows one is a command that completes the
/// value, and nobody escapes them.
fn without_colons(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let names = argument.get_value_names().unwrap_or_default();
        let names: Vec<&str> = names
            .iter()
            // They live as long as the program, as the other names do.
            .map(|name| &*name.replace(':', "\\:").leak())
            .collect();
        match names.is_empty() {
            true => argument,
            false => argument.value_names(names),
        }
    });
    command.mut_subcommands(without_colons)
}

/// Writes the manual pages.
pub fn man(arguments: &ManArguments) -> Result<()> {
    let write = |name: &str, section: &str, page: String| -> Result<()> {
        let directory = arguments.directory.join(format!("man{section}"));
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        let path = directory.join(format!("{name}.{section}"));
        fs::write(&path, page).map_err(Error::io("write", &path))
    };
    for program in &PROGRAMS {
        let mut command = (program.command)().disable_help_subcommand(true);
        command.build();
        for command in command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let name = format!("{}-{}", program.name, command.get_name());
            let exit = match command.get_name() {
                "check" => OF_FSCK,
                "diff" => OF_DIFF,
                _ => OF_MOST,
            };
            let others = [("ferofs", "1"), ("ferofs", "5")];
            write(&name, "1", page(command, "1", exit, &others))?;
        }
        let subcommands: Vec<String> = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| format!("ferofs-{}", command.get_name()))
            .collect();
        let mut others: Vec<(&str, &str)> = subcommands
            .iter()
            .map(|name| (name.as_str(), "1"))
            .collect();
        let programs = PROGRAMS
            .iter()
            .map(|program| (program.name, program.section));
        others.extend(programs.filter(|(name, _)| *name != program.name));
        others.push(("ferofs", "5"));
        let page = page(&command, program.section, program.exit, &others);
        write(program.name, program.section, page)?;
    }
    Ok(())
}

/// A page of a command.
fn page(command: &Command, section: &str, exit: &str, others: &[(&str, &str)]) -> String {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let man = Man::new(command.clone().mut_args(with_aliases)).section(section);
    let mut page = Vec::new();
    // Writing to memory does not fail.
    drop(sections(command, &man, exit, others, &mut page));
    let title = format!(
        ".TH {} {section} \"{DATE}\" \"ferofs {}\" \"ferofs\"\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    );
    title + &tidy(&String::from_utf8_lossy(&page))
}

/// A page as people write them: definitions and the starts of paragraphs once, no empty lines, and no
/// long ones.
fn tidy(page: &str) -> String {
    let mut tidy = String::new();
    let mut seen = HashSet::new();
    let mut literal = false;
    for line in page.replace("\n.br\n\n.br\n", "\n.sp\n").lines() {
        let definition = line.starts_with(".ie ") || line.starts_with(".el ");
        let again = line == ".PP" && tidy.ends_with("\n.PP\n");
        if again || definition && !seen.insert(line) {
            continue;
        }
        literal = (literal || line == ".nf") && line != ".fi";
        let mut left = line;
        while left.len() > WIDTH && !line.starts_with('.') {
            let Some((at, _)) = left
                .match_indices(' ')
                .take_while(|(at, _)| *at <= WIDTH)
                .last()
            else {
                break;
            };
            let (now, rest) = left.split_at(at);
            // What begins like a request would be one.
            if rest.starts_with(" .") || rest.starts_with(" '") {
                break;
            }
            tidy += now;
            // Where lines stay as they are, this one goes on.
            tidy += if literal { " \\\n" } else { "\n" };
            left = rest.trim_start();
        }
        tidy += left;
        tidy.push('\n');
    }
    tidy
}

fn sections(
    command: &Command,
    man: &Man,
    exit: &str,
    others: &[(&str, &str)],
    page: &mut Vec<u8>,
) -> io::Result<()> {
    man.render_name_section(page)?;
    let mut roff = Roff::new();
    synopsis(&mut roff, command);
    let about = command.get_long_about().or(command.get_about());
    roff.control("SH", ["DESCRIPTION"]);
    description(
        &mut roff,
        &about.map(ToString::to_string).unwrap_or_default(),
    );
    roff.to_writer(page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(page)?;
    }
    let mut roff = Roff::new();
    if command.has_subcommands() {
        roff.control("SH", ["COMMANDS"]);
        for command in command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            roff.control("TP", []);
            roff.text([bold(format!("ferofs-{}", command.get_name())), roman("(1)")]);
            let about = command.get_about().map(ToString::to_string);
            roff.text([roman(about.unwrap_or_default())]);
        }
    }
    let after = command.get_after_help().map(ToString::to_string);
    examples(&mut roff, &after.unwrap_or_default());
    if !exit.is_empty() {
        roff.control("SH", ["EXIT STATUS"]);
        roff.text([roman(exit)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let last = others.len().saturating_sub(1);
    for (index, (name, section)) in others.iter().enumerate() {
        let end = if index == last { "" } else { "," };
        roff.text([bold(*name), roman(format!("({section}){end}"))]);
    }
    roff.to_writer(page)
}

/// An option whose description has its other names, which pages leave out otherwise.
fn with_aliases(argument: Arg) -> Arg {
    let names = argument.get_visible_aliases().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    if names.is_empty() {
        return argument;
    }
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = format!("{help} (also {})", names.join(", "));
    argument.help(help.clone()).long_help(help)
}

/// The name and what follows it, the options in a word.
fn synopsis(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["SYNOPSIS"]);
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut line = vec![bold(name), roman(" [OPTION]...")];
    if command.has_subcommands() {
        line.push(roman(" COMMAND [ARGUMENT]..."));
    }
    let options = command.get_opts().filter(|option| option.is_required_set());
    for option in options {
        let flag = match (option.get_short(), option.get_long()) {
            (Some(short), _) => format!("-{short}"),
            (None, long) => format!("--{}", long.unwrap_or_default()),
        };
        let values = option.get_value_names().unwrap_or_default();
        let values: Vec<&str> = values.iter().map(|name| name.as_str()).collect();
        line.extend([roman(" "), bold(flag), roman(" "), italic(values.join(" "))]);
    }
    for argument in command.get_positionals() {
        let names = argument.get_value_names().unwrap_or_default();
        let name: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let several = argument
            .get_num_args()
            .is_some_and(|count| count.max_values() > 1);
        let name = italic(name.join(" "));
        let (before, after) = match (argument.is_required_set(), several) {
            (true, false) => (" ", ""),
            (true, true) => (" ", "..."),
            (false, false) => (" [", "]"),
            (false, true) => (" [", "]..."),
        };
        line.extend([roman(before), name, roman(after)]);
    }
    roff.text(line);
}

/// Paragraphs; lines that are indented stay as they are.
fn description(roff: &mut Roff, text: &str) {
    let mut literal = false;
    for line in text.lines() {
        let indented = line.starts_with("    ");
        if indented != literal {
            match indented {
                true => roff
                    .control("PP", [])
                    .control("nf", [])
                    .control("RS", ["4"]),
                false => roff.control("RE", []).control("fi", []),
            };
            literal = indented;
        }
        match line.trim() {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    if literal {
        roff.control("RE", []).control("fi", []);
    }
}

/// What follows the options in the help: "Examples:" with a command and then its explanation, each
/// further indented than what is before it; then perhaps a remark.
fn examples(roff: &mut Roff, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "Examples:" {
            roff.control("SH", ["EXAMPLES"]);
        } else if line.starts_with("      ") {
            roff.text([roman(line.trim())]);
            if !lines.peek().is_some_and(|next| next.starts_with("      ")) {
                roff.control("RE", []);
            }
        } else if line.starts_with("  ") {
            // A command may be longer than a line, and stays one.
            roff.control("PP", []).control("nf", []);
            roff.text([bold(line.trim())]);
            roff.control("fi", []).control("RS", ["4"]);
        } else if line.trim().is_empty() {
            // What follows is no example.
            if lines
                .peek()
                .is_some_and(|line| !line.starts_with(' ') && *line != "Examples:")
            {
                roff.control("SH", ["NOTES"]);
            }
        } else {
            roff.text([roman(line)]);
        }
    }
}
