"""Runs in ComfyUI's Python, in its folder: prompts (JSON in argv[1]) -> what validate_prompt says of each (argv[2])."""

import asyncio
import json
import logging
import sys
from pathlib import Path

source, target = sys.argv[1:3]
sys.argv = [sys.argv[0], "--cpu", "--disable-api-nodes"]
sys.path.insert(0, ".")

import comfy.options  # noqa: E402  # ComfyUI reads its command line when it is imported

comfy.options.enable_args_parsing()
import execution  # noqa: E402
import nodes  # noqa: E402

logging.disable(logging.CRITICAL)
sys.setrecursionlimit(3000)


async def answers(prompts):
    await nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False)
    result = []
    for prompt in prompts:
        try:
            ok, error, _, node_errors = await execution.validate_prompt("id", prompt, None)
        except Exception as e:  # what would be HTTP 500
            result.append([f"{type(e).__name__}: {e}"])
            continue
        found = [
            [node_id, e["type"], e.get("details", ""), (e.get("extra_info") or {}).get("input_name")]
            for node_id, node in node_errors.items()
            for e in node["errors"]
        ]
        if not ok and not found:
            found = [[None, error["type"], error.get("details", ""), None]]
        result.append(found)
    return result


found = asyncio.run(answers(json.loads(Path(source).read_text(encoding="utf-8"))))
Path(target).write_text(json.dumps(found), encoding="utf-8")
