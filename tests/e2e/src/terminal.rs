//! A command on a terminal of its own (util-linux's `script` makes it), as a person would type at it.

use crate::eventually;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The terminal: what was shown so far, and a keyboard.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command on a terminal.
    pub fn start(command: &Command) -> Self {
        let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(|w| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''"))).collect();
        let mut script = Command::new("script");
        script.args(["-qefc", &words.join(" "), "/dev/null"]).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script (Debian package bsdutils) runs");
        let keyboard = child.stdin.take().expect("it was piped");
        let mut output = child.stdout.take().expect("it was piped");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                screen.lock().expect("nobody panics with it").extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, keyboard, shown }
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("nobody panics with it")).into_owned()
    }

    /// Waits until these words are on the screen.
    #[track_caller]
    pub fn expect(&self, words: &str, seconds: u64) {
        eventually(&format!("the terminal shows {words:?}"), Duration::from_secs(seconds), || {
            let shown = self.shown();
            if shown.contains(words) { Ok(()) } else { Err(shown) }
        });
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).expect("the terminal takes input");
    }

    /// Waits for the command's end; its exit code.
    #[track_caller]
    pub fn end(mut self, seconds: u64) -> i32 {
        let status = eventually("the command on the terminal ends", Duration::from_secs(seconds), || self.child.try_wait().expect("wait").ok_or_else(|| self.shown()));
        status.code().unwrap_or(-1)
    }
}
