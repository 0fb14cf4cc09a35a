"""Tables from W&B are those from the folder: its client against answers in the form of its server."""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import wandb

from experiments import sync, tables
from experiments.analysis.collection import from_folders
from experiments.core.results import KeptRuns
from tests.paths import RESULTS

NAMES = [f"fashion-resnet18,{method},{bits},seed=0" for method in ("zeroq", "gaussian") for bits in ("w8a8", "mp4a8")]


def node(name: str, state: str, summary: dict) -> dict:
    """A run as W&B's GraphQL server describes it."""
    empty = ("sweepName", "group", "jobType", "commit", "description", "notes", "historyKeys")
    when = "2026-11-24T00:00:00Z"
    return {
        **dict.fromkeys(empty),
        **{"id": name, "name": name, "displayName": name, "projectId": "1", "tags": [], "state": state},
        **{"createdAt": when, "heartbeatAt": when, "historyLineCount": 1, "readOnly": False},
        **{"user": {"name": "me", "username": "me"}, "config": "{}", "systemMetrics": "{}"},
        "summaryMetrics": json.dumps(summary),
    }


@pytest.fixture
def server(monkeypatch):
    """A W&B server that knows one project; a test sets its runs."""
    runs: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            viewer = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
            data = {"viewer": viewer}
            if re.search(r"query Runs\b", asked["query"]):
                edges = [{"node": run, "cursor": run["id"]} for run in runs]
                page = {"endCursor": None, "hasNextPage": False}
                known = asked["variables"]["project"] == "zeroq"
                project = {"internalId": "1", "runCount": len(runs), "readOnly": False}
                data = {"project": project | {"runs": {"edges": edges, "pageInfo": page}} if known else None}
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield runs
        listening.shutdown()
        wandb.teardown()  # else it keeps the server's address and the key for other tests


def call(program, monkeypatch, *arguments: str):
    monkeypatch.setattr(sys, "argv", [program.__name__, *arguments])
    program.main()


def test_tables_from_wandb_are_those_from_the_folder(server, tmp_path, monkeypatch):
    kept = KeptRuns(RESULTS).contents()
    for name in NAMES:
        content = kept[name]
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "record.json").write_text(json.dumps(content))
        server.append(node(name, "finished", {"record": json.dumps(content)}))
    server.append(node("killed", "crashed", {}))
    server.append(node("foreign", "finished", {"loss": 1.0}))
    call(tables, monkeypatch, "source=wandb", "entity=me", "project=zeroq", f"outputs={tmp_path}")
    found = {path.name: path.read_text() for path in (tmp_path / "tables-me-zeroq").glob("[!.]*")}
    expected = tables.tables(from_folders(outputs=tmp_path))
    for name, table in expected.items():
        assert found[f"{name}.csv"] == table.csv()
        assert "Left out: foreign (damaged: its summary has no record" in found[f"{name}.md"]
        assert "killed" not in found[f"{name}.md"]


def test_what_wandb_does_not_show_is_a_sentence(server, tmp_path, monkeypatch):
    wandb = ("source=wandb", "entity=me", f"outputs={tmp_path}")
    for arguments, sentence in (
        ((*wandb, "project=other"), r"W&B does not show me/other \(.*\); log in"),
        ((*wandb, "project=zeroq"), "me/zeroq has no finished runs; upload offline ones"),
        (wandb, "source is local, or wandb together with entity"),
        (("source=disk",), "source is local, or wandb"),
        (("colour=red",), "unknown argument 'colour=red'; they are results=FOLDER, outputs=FOLDER, source=…"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            call(tables, monkeypatch, *arguments)


def test_sync_tells_how_offline_runs_are_uploaded(tmp_path, monkeypatch, capsys):
    call(sync, monkeypatch, f"outputs={tmp_path}")
    assert capsys.readouterr().out.startswith("no offline run of W&B waits")
    for name, files in {"a,b": ["run-1.wandb"], "c": ["run-2.wandb", "run-2.wandb.synced"]}.items():
        folder = tmp_path / "runs" / name / "wandb" / "offline-run-1"
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).touch()
    call(sync, monkeypatch, f"outputs={tmp_path}", "project=zero q")
    _, *commands = capsys.readouterr().out.splitlines()
    assert commands == [f"wandb sync --project 'zero q' {tmp_path}/runs/a,b/wandb/offline-run-1"]
