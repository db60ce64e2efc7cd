"""The files by which each system starts the server: pure functions of what is started.

systemd.service(5), systemd.exec(5); launchd.plist(5); Task Scheduler's schema 1.2,
https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema.
"""

import plistlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

NAME = "snugly"
LABEL = "org.snugly.serve"  # launchd's names are domains read backwards

# What a service cannot learn by itself: it is not started from a shell. No keys or tokens.
_KEPT = (
    "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "HF_HOME",
    "HF_ENDPOINT", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
)  # fmt: skip
_OPEN_FILES = 65536  # a socket per client, and the usual 1,024 are too few for 1,000 of them
_START_SECONDS = 900  # models named with --model are loaded first, each in up to 600 s
_STOP_SECONDS = 30  # 5 s for answers (server/serving.py), 2 s for each engine


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be started: the program with its words, its variables, its folder, its log."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    log: str
    user: str = ""  # Windows: who must be logged on


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that go with a service: ours, and those that say where things are."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if value and (name in _KEPT or name.startswith("SNUGLY_"))
    }


def systemd_unit(launch: Launch) -> str:
    """A user unit, hardened by what needs no user namespace: some systems allow none.

    Memory may be made executable, since CUDA compiles as it goes. OOMPolicy: when the kernel
    kills an engine, the server stays and starts another.
    """
    variables = "".join(
        f"Environment={_word(f'{name}={value}', plain=True)}\n"
        for name, value in launch.environment.items()
    )
    program, *words = launch.command
    return f"""\
[Unit]
Description=Snugly: large language models for this machine's programs
Documentation=man:systemd.service(5)
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={" ".join([_word(program, plain=True), *map(_word, words)])}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={_path(launch.folder)}
{variables}Restart=on-failure
RestartSec=2
TimeoutStartSec={_START_SECONDS}
TimeoutStopSec={_STOP_SECONDS}
WatchdogSec=60
KillMode=mixed
OOMPolicy=continue
LimitNOFILE={_OPEN_FILES}
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""


def _word(text: str, plain: bool = False) -> str:
    """One word, quoted as systemd.syntax(7) has it; `%` is a specifier, `$` a variable.

    In the program's own name, and in Environment=, variables are not looked for (`plain`).

    Raises: ValueError for a NUL, which no argument can hold.
    """
    if "\0" in text:
        raise ValueError("an argument holds a NUL")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    text = re.sub(r"[\x01-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return f'"{text if plain else text.replace("$", "$$")}"'


def _path(text: str) -> str:
    """A path that a whole line is for: not quoted, but specifiers count."""
    return text.replace("%", "%%")


def launchd_plist(launch: Launch) -> bytes:
    """A launch agent: started at login, and again when it fails."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(launch.command),
            "EnvironmentVariables": dict(launch.environment),
            "WorkingDirectory": launch.folder,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": _STOP_SECONDS,
            "ProcessType": "Interactive",  # else the system may slow it down
            "Umask": 0o077,
            "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
            "StandardErrorPath": launch.log,
        }
    )


def windows_task(launch: Launch) -> str:
    """A task at the user's logon. Its text is to be stored as UTF-16, as schtasks wants it.

    A task has no variables of its own: the settings file must say what they say elsewhere.
    """
    program, arguments = launch.command[0], subprocess.list2cmdline(launch.command[1:])
    user = f"<UserId>{escape(launch.user)}</UserId>" if launch.user else ""
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Snugly: large language models for this machine's programs</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      {user}
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      {user}
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(arguments)}</Arguments>
      <WorkingDirectory>{escape(launch.folder)}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
