#!/usr/bin/env bash
# The program, compiled and run with the driver that test-clients.sh found.
set -euo pipefail
javac -cp "$CLIENT_JDBC" Program.java
java -cp "$CLIENT_JDBC:." Program
