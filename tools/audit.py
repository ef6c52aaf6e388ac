"""Ask the vulnerability service about every installed package, where it can be asked.

    python tools/audit.py

pip-audit asks PyPI. Ends with 1 where a known vulnerability is found, with 0 where none is, and with 0 and a sentence where nobody
answered: a machine without a network is no reason for a verdict.
"""

import json
import subprocess
import sys


def main() -> int:
    """Ask, and say what came of it."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        packages = json.loads(ran.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print("audit: the vulnerability service did not answer in time; nothing was audited")
        return 0
    except (ValueError, KeyError):
        reason = ran.stderr.strip().splitlines()[-1:] or ["no answer"]
        print(f"audit: the vulnerability service could not be asked ({reason[0][:200]}); nothing was audited")
        return 0
    asked = [package for package in packages if "skip_reason" not in package]
    found = [(package, vulnerability) for package in asked for vulnerability in package["vulns"]]
    print(f"audit: {len(asked)} of {len(packages)} packages could be asked about, {len(found)} known vulnerabilities")
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
