"""``python -m edge_agent``"""

from edge_agent.commands.main import main

main()
