"""``python -m edge_agent``"""

from edge_agent.commands import main

main()
