"""The master: admits agents and frameworks, offers resources, keeps track of tasks."""
