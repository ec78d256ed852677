"""A scheduler on PyPI's pymesos, run in its own virtual environment: commands on stdin, events on stdout, one JSON object a line.

Arguments: master as host:port, framework id to fail over from or "-".
"""

import getpass
import json
import sys
import threading

from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data


def say(event, **fields):
    sys.stdout.write(json.dumps(dict(fields, event=event)) + "\n")
    sys.stdout.flush()


class Frontend(Scheduler):
    """Launches what it was told to on the first offer, declines all others for a moment."""

    def __init__(self):
        self.lock = threading.Lock()
        self.waiting = []

    def registered(self, driver, framework_id, master_info):
        say("registered", framework_id=framework_id["value"], master=master_info)

    def reregistered(self, driver, master_info):
        say("reregistered", framework_id=driver.framework_id, master=master_info)

    def disconnected(self, driver):
        say("disconnected")

    def resourceOffers(self, driver, offers):
        say("offers", offers=offers)
        for offer in offers:
            with self.lock:
                tasks, self.waiting = self.waiting, []
            if tasks:
                for task in tasks:
                    task["agent_id"] = offer["agent_id"]
                driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.5})
            else:
                driver.declineOffer(offer["id"], {"refuse_seconds": 0.5})

    def statusUpdate(self, driver, status):
        say("update", status=status)

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        say("message", executor=executor_id["value"], agent=agent_id["value"], text=decode_data(message).decode())

    def executorLost(self, driver, executor_id, agent_id, status):
        say("executor_lost", executor=executor_id["value"], status=status)

    def error(self, driver, message):
        say("error", message=message)


def task(command):
    made = {
        "task_id": {"value": command["id"]},
        "name": command["id"],
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ],
    }
    if "executor" in command:
        made["executor"] = {
            "executor_id": {"value": command["executor"]},
            "type": "CUSTOM",
            "command": {"value": command["shell"]},
            "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}],
        }
    else:
        made["command"] = {"value": command["shell"]}
    return made


def main():
    framework = {"user": getpass.getuser(), "name": "pymesos", "checkpoint": True}
    if sys.argv[2] != "-":
        framework["id"] = {"value": sys.argv[2]}
    frontend = Frontend()
    driver = MesosSchedulerDriver(frontend, framework, sys.argv[1])
    driver.start()
    for line in sys.stdin:
        command = json.loads(line)
        do = command["do"]
        if do == "launch":
            with frontend.lock:
                frontend.waiting.append(task(command))
            driver.reviveOffers()
        elif do == "kill":
            driver.killTask({"value": command["id"]})
        elif do == "message":
            driver.sendFrameworkMessage({"value": command["executor"]}, {"value": command["agent"]}, encode_data(command["text"].encode()))
        elif do == "reconcile":
            driver.reconcileTasks([{"task_id": {"value": name}} for name in command["ids"]])
        elif do == "suppress":
            driver.suppressOffers()
        elif do == "stop":
            break
    driver.stop()
    driver.join()


main()
