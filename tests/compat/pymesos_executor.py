"""A custom executor on PyPI's pymesos: its tasks run until they are killed, or told by a message to finish; others are echoed."""

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):
    def launchTask(self, driver, task):
        self.report(driver, task["task_id"], "TASK_RUNNING")

    def killTask(self, driver, task_id):
        self.report(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        text = decode_data(message).decode()
        if text.startswith("finish "):
            self.report(driver, {"value": text[len("finish ") :]}, "TASK_FINISHED")
        else:
            driver.sendFrameworkMessage(encode_data(text.upper().encode()))

    def report(self, driver, task_id, state):
        driver.sendStatusUpdate({"task_id": task_id, "state": state, "data": encode_data(b"from the executor")})


MesosExecutorDriver(Echo()).run()
