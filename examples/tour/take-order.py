#!/usr/bin/env python3
"""Puts one order, which is the standard input, into the database."""
import os
import sqlite3
import sys

order = sys.stdin.read()
if "broken" in order:
    sys.exit(f"this order cannot be taken: {order}")
with sqlite3.connect("orders.db", timeout=10) as database:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE IF NOT EXISTS orders (sequence INTEGER PRIMARY KEY, text TEXT)")
    # An order may come twice: its sequence tells.
    sequence = int(os.environ["JETBRIDGE_SEQUENCE"])
    database.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (sequence, order))
