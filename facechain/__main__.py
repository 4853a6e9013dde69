from facechain.cli import main

main()
