"""Reads Dockerfile, .dockerignore and compose.yaml, and says what is wrong with them: no container engine is needed.

Each rule returns complaints, an empty list when all is well. The tests show each rule a file that it must refuse.
"""

import fnmatch
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its name, its text, and the line on which it begins."""

    name: str
    text: str
    line: int


def instructions(dockerfile: str) -> list[Instruction]:
    """Returns the instructions of a Dockerfile, comments left out and continued lines joined."""
    found: list[Instruction] = []
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(dockerfile.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begin = begin if parts else number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            name, _, text = " ".join(parts).partition(" ")
            found.append(Instruction(name, text.strip(), begin))
            parts = []
    if parts:
        found.append(Instruction("UNFINISHED", " ".join(parts), begin))
    return found


def dockerfile_complaints(dockerfile: str) -> list[str]:
    """Holds a Dockerfile against the rules of a hardened image."""
    found = instructions(dockerfile)
    complaints = [f"line {i.line}: unknown instruction {i.name}" for i in found if i.name not in INSTRUCTIONS]
    stages = [i for i in found if i.name == "FROM"]
    names = {i.text.split()[-1] for i in stages if " AS " in i.text}
    for stage in stages:
        complaints += [f"line {stage.line}: {c}" for c in image_complaints(stage.text.split()[0])]
    if len(stages) < 2:
        complaints.append("one stage only: the image would carry the build tools")
    last = [i for i in found if stages and i.line > stages[-1].line]
    users = [i for i in last if i.name == "USER"]
    if not users or users[-1].text.split(":")[0] in ("root", "0"):
        complaints.append("the last stage runs as root")
    complaints += [
        f"the last stage has no {name}" for name in ("HEALTHCHECK", "CMD") if name not in {i.name for i in last}
    ]
    for i in found:
        if i.name == "COPY" and (source := re.search(r"--from=(\S+)", i.text)) and source.group(1) not in names:
            complaints.append(f"line {i.line}: no stage '{source.group(1)}'")
        if i.name in ("CMD", "HEALTHCHECK") and "[" not in i.text:
            complaints.append(f"line {i.line}: {i.name} in shell form: signals would not reach the program")
        if re.search(r"https?://(?!127\.0\.0\.1)", i.text):
            complaints.append(f"line {i.line}: names a host")
        if i.name == "ARG" and re.search(r"(PASSWORD|TOKEN|SECRET)", i.text):
            complaints.append(f"line {i.line}: a secret as build argument stays in the image's history")
        if i.name == "RUN":
            complaints += [f"line {i.line}: {complaint}" for complaint in _run_complaints(i.text)]
    return complaints


def _run_complaints(text: str) -> list[str]:
    complaints = []
    if "apt-get install" in text and not ("--no-install-recommends" in text and "rm -rf /var/lib/apt/lists" in text):
        complaints.append("apt-get install without --no-install-recommends, or its lists stay in the layer")
    if "sudo " in text:
        complaints.append("sudo")
    for command in re.split(r"&&|\|\||;", text):
        if "pip install" in command:
            packages = [word for word in shlex.split(command.split("pip install", 1)[1]) if not word.startswith("-")]
            locked = re.search(r"(-r|-c) \S+\.lock|--editable", command)
            if not locked and not all("==" in word for word in packages):
                complaints.append(f"pip install without versions: {command.strip()}")
            if "--no-cache" not in command:
                complaints.append(f"pip's cache stays in the layer: {command.strip()}")
    return complaints


def image_complaints(image: str) -> list[str]:
    """Holds an image's name against: a version tag of two numbers or more, never latest; a digest may follow."""
    if re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image):
        return []
    return [f"image '{image}' is not pinned by a version tag"]


def copied_paths(dockerfile: str) -> list[str]:
    """Returns what the Dockerfile copies out of the project."""
    words = [shlex.split(i.text) for i in instructions(dockerfile) if i.name == "COPY" and "--from" not in i.text]
    return [path for copy in words for path in [word for word in copy if not word.startswith("--")][:-1]]


def is_sent(path: str, dockerignore: str) -> bool:
    """Says whether .dockerignore lets a path into the build: the last line that matches it or a parent decides."""
    places = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    sent = True
    for line in dockerignore.splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        shapes = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch.fnmatchcase(place, shape) for place in places for shape in shapes):
            sent = line.startswith("!")
    return sent


def compose_complaints(compose: dict[str, Any]) -> list[str]:
    """Holds a compose file against: loopback, health, order, no secrets in it, and names that exist."""
    complaints = []
    services = compose["services"]
    known = {kind: set(compose.get(kind) or {}) for kind in ("volumes", "configs")}
    for name, service in services.items():
        complaints += [f"{name}: {c}" for c in image_complaints(service["image"])]
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                complaints.append(f"{name}: port {port} is open to other machines")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith((".", "/")) and source not in known["volumes"]:
                complaints.append(f"{name}: no volume '{source}'")
        for config in service.get("configs", []):
            if config["source"] not in known["configs"]:
                complaints.append(f"{name}: no config '{config['source']}'")
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                complaints.append(f"{name}: depends on '{other}', which is no service")
            elif how.get("condition") == "service_healthy" and "test" not in services[other].get("healthcheck", {}):
                complaints.append(f"{name}: waits for '{other}' to be healthy, which has no healthcheck")
            elif how.get("condition") not in ("service_healthy", "service_completed_successfully"):
                complaints.append(f"{name}: does not wait for '{other}' to be ready")
        for key, value in service.get("environment", {}).items():
            if re.search(r"(PASSWORD|SECRET|TOKEN)", key) and "${" not in str(value):
                complaints.append(f"{name}: {key} is written into the file")
            if re.search(r"://[^/$@]+:[^$@]+@", str(value)):
                complaints.append(f"{name}: {key} holds a password")
        if service.get("privileged") or service.get("network_mode") == "host":
            complaints.append(f"{name}: has the rights of the host")
    return complaints


def variables(text: str) -> set[str]:
    """Returns the names that a compose file takes from the environment."""
    return set(re.findall(r"\$\{(\w+)", text))
