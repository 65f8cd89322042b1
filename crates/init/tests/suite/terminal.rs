//! Terminals (45 to 55). Python's `pty` has the other side.

use std::process::Command;

use crate::harness::{Way, init, is_ours};

/// Runs the init on a terminal of its own, types `keys` when main has said "ready", and gives everything that appears, and
/// the exit code.
fn on_a_terminal(way: Way, command: &str, keys: &str) -> (String, i32) {
    let script = r"
import os, pty, select, sys, time
command, keys = sys.argv[1:-1], sys.argv[-1].encode().decode('unicode_escape').encode()
pid, fd = pty.fork()
if pid == 0: os.execvp(command[0], command)
said, typed, end = b'', False, time.time() + 15
while time.time() < end:
    if select.select([fd], [], [], 0.1)[0]:
        try: more = os.read(fd, 4096)
        except OSError: more = b''
        if not more: break
        said += more
    if not typed and b'ready' in said:
        typed = True
        for key in keys.split(b'|'):
            os.write(fd, key); time.sleep(0.3)
else: os.kill(pid, 9)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(said.decode(errors='replace'))
sys.exit(code if code >= 0 else 128 - code)
";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    if way == Way::Pid1 {
        python.args(["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]);
    }
    let output = python.arg(init()).args(["--", "bash", "--norc", "-c", command, keys]).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1))
}

/// 45
fn a_filter_works_to_its_end(way: Way) {
    let (said, code) = on_a_terminal(way, "echo ready; tac", r"a\n|b\n|\x04");
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("b\r\na\r\n"), "{said:?}");
}

/// 46
fn a_shell_has_job_control(way: Way) {
    let (said, code) = on_a_terminal(way, "set -m; echo ready; sleep 0.1 & fg; jobs; exit 3", "");
    assert_eq!(code, 3, "{said}");
    assert!(!said.contains("no job control") && !said.contains("cannot set terminal"), "{said}");
}

/// 48
fn one_ctrl_c_is_one_sigint(way: Way) {
    let command = "trap 'n=$((n+1))' INT; n=0; echo ready; sleep 1; sleep 1; echo seen $n; exit 4";
    let (said, code) = on_a_terminal(way, command, r"\x03");
    assert!(said.contains("seen 1"), "{said}");
    assert_eq!(code, 4);
}

/// 53: Ctrl-Z on something that is no shell: nobody could continue it, so it goes on.
fn ctrl_z_stops_nobody_for_ever(way: Way) {
    let (said, code) = on_a_terminal(way, "echo ready; sleep 1; echo on; exit 5", r"\x1a");
    assert!(said.contains("on"), "{said}");
    assert_eq!(code, 5);
}

/// 54
fn a_new_size_is_told_once(way: Way) {
    let command = "python3 -c 'import fcntl,os,signal,struct,termios,time\nn=[0]\n\
        signal.signal(28,lambda *a: n.__setitem__(0,n[0]+1))\nprint(\"ready\",flush=True)\n\
        fcntl.ioctl(0,termios.TIOCSWINSZ,struct.pack(\"HHHH\",50,90,0,0))\ntime.sleep(0.5)\nprint(\"seen\",n[0])'; exit 6";
    let (said, code) = on_a_terminal(way, command, "");
    assert!(said.contains("seen 1"), "{said}");
    assert_eq!(code, 6);
}

/// 52: started in the background, it leaves the foreground to whoever has it.
fn the_foreground_is_not_stolen(way: Way) {
    let _ = way;
    let init = init().display().to_string();
    let command = format!(
        "set -m; {init} -- sleep 1 & echo ready; read -t 5 line && echo read $line; kill %1; wait; exit 7"
    );
    let (said, code) = on_a_terminal(Way::Subreaper, &command, r"word\n");
    assert!(said.contains("read word"), "{said}");
    assert_eq!(code, 7);
}

/// 49: a terminal that stops whoever writes from the background does not stop the init.
fn its_own_words_do_not_stop_it(way: Way) {
    let init = init().display().to_string();
    let command = format!("stty tostop; {init} -- sh -c 'echo ready; sleep 0.2 & exit 5'; echo ended $?");
    let (said, code) = on_a_terminal(way, &command, "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ended 5"), "{said}");
    assert!(!is_ours() || said.contains("1 other process was told to end"), "{said}");
}

/// 51: standard input is something else, and main has the terminal all the same.
fn the_terminal_is_mains_without_standard_input(way: Way) {
    let init = init().display().to_string();
    let command = format!("{init} -- sh -c 'echo ready; read line </dev/tty; echo got $line' </dev/null");
    let (said, code) = on_a_terminal(way, &command, r"word\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("got word"), "{said}");
}

/// 55
fn an_init_behind_an_init(way: Way) {
    let init = init().display().to_string();
    let (said, code) = on_a_terminal(way, &format!("{init} -- {init} -- sh -c 'echo ready; exit 8'"), "");
    assert_eq!((said.as_str(), code), ("ready\r\n", 8), "and neither says anything");
}

super::cases! {
    as_pid1: ctrl_z_stops_nobody_for_ever;
    as_subreaper: the_foreground_is_not_stolen;
    on_terminals: its_own_words_do_not_stop_it, the_terminal_is_mains_without_standard_input, a_filter_works_to_its_end, a_shell_has_job_control, one_ctrl_c_is_one_sigint, a_new_size_is_told_once,
        an_init_behind_an_init;
}
