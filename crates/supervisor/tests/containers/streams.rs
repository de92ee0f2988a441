//! Exec and attach.

use crate::support::{Host, exec, output, until, within};
use mainstay_supervisor::{Container, Error, Exec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

async fn read_until(reader: &mut pipe::Receiver, needle: &str) -> String {
    let mut text = Vec::new();
    within(needle, async {
        while !String::from_utf8_lossy(&text).contains(needle) {
            let mut chunk = [0; 1024];
            match reader.read(&mut chunk).await.unwrap() {
                0 => panic!("it ended with {:?}, without {needle:?}", String::from_utf8_lossy(&text)),
                length => text.extend_from_slice(&chunk[..length]),
            }
        }
    })
    .await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn exec_gives_output_input_and_exit_codes() {
    let host = Host::new();
    let container = host.launch(host.command("exec", &["sleep", "1000"])).await;
    for (command, code, text) in [
        (vec!["true"], 0, ""),
        (vec!["false"], 1, ""),
        (vec!["sh", "-c", "echo out; echo err >&2; exit 42"], 42, "out\nerr\n"),
        (vec!["sh", "-c", "kill -9 $$"], 137, ""),
        (vec!["cat"], 0, ""),
        (vec!["sh", "-c", "cat /proc/self/cgroup | grep -c /exec"], 0, ""),
    ] {
        let (got_code, got) = output(&container, &command).await;
        if text.is_empty() && command[0] == "sh" && code == 0 {
            assert_eq!(got_code, 1, "its cgroup is the root of its namespace: {got}");
        } else {
            assert_eq!((got_code, got.as_str()), (code, text), "{command:?}");
        }
    }
    for (command, code, message) in [
        ("foo", 127, r#"exec: "foo": executable file not found in $PATH"#),
        ("/no/foo", 127, r#"exec: "/no/foo": stat /no/foo: no such file or directory"#),
        ("/bin/not-executable", 126, r#"exec: "/bin/not-executable": permission denied"#),
    ] {
        match container.exec(exec(&[command])).await.unwrap_err() {
            Error::Exec { code: got, message: words } => assert_eq!((got, words.as_str()), (code, message)),
            other => panic!("{other:?}"),
        }
    }
    let mut execution = container.exec(Exec { stdin: true, ..exec(&["tr", "a-z", "A-Z"]) }).await.unwrap();
    let mut stdin = execution.streams.stdin.take().unwrap();
    let text = "some words\n".repeat(50_000);
    let (sent, mut got) = (text.clone(), String::new());
    let writing = tokio::spawn(async move { stdin.write_all(sent.as_bytes()).await.unwrap() });
    within("all of it", execution.streams.stdout.take().unwrap().read_to_string(&mut got)).await.unwrap();
    writing.await.unwrap();
    assert_eq!(got, text.to_uppercase());
    assert_eq!(execution.wait().await.unwrap().code, 0);
    container.kill_all().await.unwrap();
    container.wait().await;
    assert!(matches!(container.exec(exec(&["true"])).await, Err(Error::NotRunning(_))));
}

#[tokio::test]
async fn an_exec_can_be_killed_with_what_it_started() {
    let host = Host::new();
    let container = host.launch(host.command("kill", &["sleep", "1000"])).await;
    let mut execution = container.exec(exec(&["sh", "-c", "sleep 777; true"])).await.unwrap();
    execution.kill().await.unwrap();
    let exit = within("its end", execution.wait()).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    within("its children's end", async { while output(&container, &["ps"]).await.1.contains("777") {} }).await;
    assert_eq!(container.exit(), None);
    container.kill_all().await.unwrap();
}

#[tokio::test]
async fn many_execs_at_once_do_not_disturb_one_another() {
    let host = Host::new();
    let container = host.launch(host.command("many", &["sleep", "1000"])).await;
    let runs = (0..30).map(|number: u32| {
        let container = container.clone();
        tokio::spawn(async move { output(&container, &["sh", "-c", &format!("echo {number}; exit {number}")]).await })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(run.await.unwrap(), (number as i32, format!("{number}\n")));
    }
    container.kill_all().await.unwrap();
}

#[tokio::test]
async fn an_exec_with_a_terminal_has_its_size_and_hangs_up_with_its_client() {
    let host = Host::new();
    let container = host.launch(host.command("tty", &["sleep", "1000"])).await;
    let mut execution = container.exec(Exec { command: vec!["sh".into()], tty: true, stdin: true }).await.unwrap();
    execution.resize(123, 45).await.unwrap();
    let (mut stdin, mut stdout) = (execution.streams.stdin.take().unwrap(), execution.streams.stdout.take().unwrap());
    stdin.write_all(b"stty size; tty; echo $TERM; readlink /proc/self/fd/0; test -t 2 && echo is-$((1+1))terminal\n").await.unwrap();
    let text = read_until(&mut stdout, "is-2terminal\r\n").await;
    assert!(text.contains("45 123\r\n") && text.contains("/dev/pts/0\r\n"), "{text}");
    stdin.write_all(b"exit 9\n").await.unwrap();
    assert_eq!(within("its end", execution.wait()).await.unwrap().code, 9);

    let mut execution = container.exec(Exec { command: vec!["sh".into()], tty: true, stdin: true }).await.unwrap();
    execution.streams.stdin = None;
    execution.streams.stdout = None;
    let exit = within("the hang-up", execution.wait()).await.unwrap();
    assert!(exit.signal == Some(1) || exit.code == 129 || exit.code == 0, "{exit:?}");
    container.kill_all().await.unwrap();
}

async fn attached(host: &Host, id: &str, script: &str, tty: bool, once: bool) -> Container {
    let mut launch = host.script(id, script);
    (launch.stdin, launch.stdin_once, launch.tty) = (true, once, tty);
    host.launch(launch).await
}

#[tokio::test]
async fn attach_reads_what_was_written_before_and_writes_input_with_half_close() {
    let host = Host::new();
    let container = attached(&host, "once", "echo first; cat; echo end; exit 3", false, true).await;
    until("first", || host.log("once") == ["stdout F first"]).await;
    let mut streams = container.attach(true).await.unwrap();
    let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
    assert_eq!(read_until(&mut stdout, "first\n").await, "first\n");
    stdin.write_all(b"through\n").await.unwrap();
    read_until(&mut stdout, "through\n").await;
    drop(stdin);
    let mut rest = String::new();
    within("the end of output", stdout.read_to_string(&mut rest)).await.unwrap();
    assert_eq!((rest.as_str(), within("the end", container.wait()).await.code), ("end\n", 3));

    // Without stdinOnce the container's input stays open for the next client.
    let container = attached(&host, "again", "while read line; do echo got $line; [ $line = quit ] && exit 0; done; exit 1", false, false).await;
    for (word, code) in [("one", None), ("quit", Some(0))] {
        let mut streams = container.attach(true).await.unwrap();
        let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        read_until(&mut stdout, &format!("got {word}\n")).await;
        drop((stdin, stdout, streams));
        if let Some(code) = code {
            assert_eq!(within("the end", container.wait()).await.code, code);
        }
    }
}

#[tokio::test]
async fn a_container_with_a_terminal_can_be_attached_resized_and_logged() {
    let host = Host::new();
    let container = attached(&host, "tty", "echo begun; read x; stty size; tty; echo error >&2; exit 4", true, true).await;
    let mut streams = container.attach(true).await.unwrap();
    container.resize(100, 30).await.unwrap();
    let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
    read_until(&mut stdout, "begun\r\n").await;
    stdin.write_all(b"go\n").await.unwrap();
    let text = read_until(&mut stdout, "error\r\n").await;
    assert!(text.contains("30 100\r\n") && text.contains("/dev/pts/0\r\n"), "{text}");
    assert_eq!(within("the end", container.wait()).await.code, 4);
    assert!(host.log("tty").contains(&"stdout F error".to_owned()), "{:?}", host.log("tty"));
    let plain = host.launch(host.command("plain", &["sleep", "1000"])).await;
    assert!(plain.resize(1, 1).await.is_err());
    plain.kill_all().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_stop_the_container_for_ever() {
    let host = Host::new();
    let mut launch = host.script("slow", "yes | head -c 3000000; echo; echo finished");
    launch.stdin = true;
    launch.log = None;
    let container = host.launch(launch).await;
    let streams = container.attach(false).await.unwrap();
    // Twice the supervisor's patience, and some.
    assert_eq!(within("the end in spite of the client", container.wait()).await.code, 0);
    drop(streams);
}
